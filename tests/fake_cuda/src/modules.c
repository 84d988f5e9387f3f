/* Modules and launches: an image names a shared object that build.py compiled from real CUDA C. */
#define _GNU_SOURCE
#include "fake.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char MAGIC[] = "FAKECUDA:"; /* then the path of a shared object, then a zero */

#define PARAMETER_BUFFER ((void *)1) /* CU_LAUNCH_PARAM_BUFFER_POINTER */
#define PARAMETER_SIZE ((void *)2) /* CU_LAUNCH_PARAM_BUFFER_SIZE */
#define PARAMETER_BYTES_MAX 4096

typedef struct Function {
    FakeLaunch launch;
    size_t (*pack)(void **parameters, void *packed);
} Function;

Status fake_put_launch(
    void *stream, FakeLaunch launch, const unsigned grid[3], const unsigned block[3],
    const void *packed, size_t bytes);

typedef struct Launch {
    FakeLaunch launch;
    const unsigned *grid, *block;
    const void *packed;
} Launch;

static void run(void *what) {
    const Launch *one = what;
    one->launch(one->grid, one->block, one->packed);
}

Status fake_run_kernel(
    FakeLaunch launch, const unsigned grid[3], const unsigned block[3], const void *packed) {
    Launch one = {launch, grid, block, packed};
    return fake_guarded(run, &one);
}

Status cuModuleLoadDataEx(
    void **module, const void *image, unsigned count, int *options, void **values) {
    ENTER_UNCAPTURED;
    if (strncmp(image, MAGIC, sizeof MAGIC - 1))
        return INVALID_IMAGE;
    *module = dlopen((const char *)image + sizeof MAGIC - 1, RTLD_NOW | RTLD_LOCAL);
    return *module ? SUCCESS : INVALID_IMAGE;
}

Status cuModuleLoadData(void **module, const void *image) {
    return cuModuleLoadDataEx(module, image, 0, NULL, NULL);
}

Status cuModuleUnload(void *module) {
    ENTER_CONTEXT;
    /* Launches that wait on a stream still need the code. */
    Status status = fake_drain_device(fake_current());
    dlclose(module);
    return status;
}

Status cuModuleGetFunction(Function **function, void *module, const char *name) {
    ENTER_CONTEXT;
    char symbol[128];
    snprintf(symbol, sizeof symbol, "fake_launch_%s", name);
    FakeLaunch launch = (FakeLaunch)dlsym(module, symbol);
    if (!launch)
        return NOT_FOUND;
    *function = calloc(1, sizeof **function); /* lives as long as the process */
    (*function)->launch = launch;
    snprintf(symbol, sizeof symbol, "fake_pack_%s", name);
    (*function)->pack = (size_t (*)(void **, void *))dlsym(module, symbol);
    return SUCCESS;
}

Status cuFuncGetAttribute(int *value, int attribute, Function *function) {
    ENTER_CONTEXT;
    *value = attribute ? 0 : 1024; /* CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK is the first */
    return SUCCESS;
}

/* Deprecated, and still called by pycuda before each launch, which then says it again. */
Status cuFuncSetBlockShape(Function *function, int x, int y, int z) {
    ENTER_CONTEXT;
    return x > 0 && y > 0 && z > 0 && x * y * z <= 1024 ? SUCCESS : INVALID_VALUE;
}

Status cuLaunchKernel(
    Function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
    unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream, void **parameters,
    void **extra) {
    ENTER_CONTEXT;
    const unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
    if (!grid_x || grid_x > 2147483647u || !grid_y || grid_y > 65535 || !grid_z || grid_z > 65535
        || block_x * block_y * block_z == 0
        || block_x * block_y * block_z > 1024)
        return INVALID_VALUE;
    char own[PARAMETER_BYTES_MAX];
    const void *packed = own;
    size_t bytes = 0;
    size_t wanted = function->pack(parameters, own);
    for (; extra && *extra; extra += 2) {
        if (extra[0] == PARAMETER_BUFFER)
            packed = extra[1];
        else if (extra[0] == PARAMETER_SIZE)
            bytes = *(size_t *)extra[1];
    }
    /* A buffer of another size means other types: the driver may notice or not, we do. */
    if (packed != own && bytes != wanted)
        return INVALID_VALUE;
    return fake_put_launch(stream, function->launch, grid, block, packed, wanted);
}

/* Devices, their primary contexts, and the stack of contexts that each thread has. */
#include "fake.h"
#include <stdio.h>

#define STACK_MAX 64
#define CONTEXT(device) ((void *)(uintptr_t)(0x1000 + (device)))
#define DEVICE(context) ((int)((uintptr_t)(context) - 0x1000))

enum { WARP = 10, MULTIPROCESSORS = 16, THREADS_MAX = 1, MAJOR = 75, MINOR = 76 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int initialized;
static int retained[DEVICES_MAX];
static Status broken[DEVICES_MAX];

static __thread int stack[STACK_MAX];
static __thread int depth;

int fake_current(void) { return depth ? stack[depth - 1] : -1; }
Status fake_broken(int device) { return broken[device]; }

Status fake_break(int device, Status error) {
    if (error == ILLEGAL_ADDRESS || error == LAUNCH_FAILED)
        broken[device] = error;
    return error;
}

void fake_cuda_mend(void) {
    for (int device = 0; device < DEVICES_MAX; device++)
        broken[device] = SUCCESS;
}

/* What a new process finds: nobody holds a context, and nothing is allocated or waiting. A primary
 * context that was released stays on the stack of its thread until then, as the driver has it. */
void fake_cuda_restart(void) {
    fake_cuda_mend();
    depth = 0;
    for (int device = 0; device < DEVICES_MAX; device++) {
        retained[device] = 0;
        fake_forget_work(device);
        fake_release_all(device);
    }
}

Status cuInit(unsigned flags) {
    ENTER;
    if (!fake_device_count())
        return NO_DEVICE;
    initialized = 1;
    return SUCCESS;
}

Status cuDriverGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}

Status cuDeviceGetCount(int *count) {
    ENTER;
    if (!initialized)
        return NOT_INITIALIZED;
    *count = fake_device_count();
    return SUCCESS;
}

Status cuDeviceGet(int *device, int ordinal) {
    ENTER;
    if (!initialized)
        return NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= fake_device_count())
        return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

Status cuDeviceGetName(char *name, int length, int device) {
    ENTER;
    snprintf(name, length, "FAKE-%d", device);
    return SUCCESS;
}

Status cuDeviceGetPCIBusId(char *id, int length, int device) {
    ENTER;
    snprintf(id, length, "0000:%02x:00.0", device);
    return SUCCESS;
}

Status cuDeviceTotalMem_v2(size_t *bytes, int device) {
    ENTER;
    *bytes = fake_memory_bytes();
    return SUCCESS;
}

Status cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER;
    *value = attribute == MAJOR             ? 9
             : attribute == MINOR           ? 0
             : attribute == WARP            ? 32
             : attribute == THREADS_MAX     ? 1024
             : attribute == MULTIPROCESSORS ? 132
                                            : 1;
    return SUCCESS;
}

Status cuDeviceComputeCapability(int *major, int *minor, int device) {
    ENTER;
    *major = 9;
    *minor = 0;
    return SUCCESS;
}

Status cuDevicePrimaryCtxRetain(void **context, int device) {
    ENTER;
    if (!initialized)
        return NOT_INITIALIZED;
    pthread_mutex_lock(&lock);
    retained[device]++;
    pthread_mutex_unlock(&lock);
    *context = CONTEXT(device);
    return SUCCESS;
}

/* With its last holder a context goes, and all that is still allocated in it. */
Status cuDevicePrimaryCtxRelease_v2(int device) {
    ENTER;
    pthread_mutex_lock(&lock);
    int last = retained[device] > 0 && !--retained[device];
    pthread_mutex_unlock(&lock);
    if (last) {
        if (!broken[device])
            fake_drain_device(device);
        fake_forget_work(device);
        size_t bytes = fake_release_all(device);
        if (!broken[device])
            fake_note_leak(bytes);
    }
    return SUCCESS;
}

Status cuCtxPushCurrent_v2(void *context) {
    ENTER;
    if (depth >= STACK_MAX)
        return OUT_OF_MEMORY;
    stack[depth++] = DEVICE(context);
    return SUCCESS;
}

Status cuCtxPopCurrent_v2(void **context) {
    ENTER;
    if (!depth)
        return INVALID_CONTEXT;
    depth--;
    if (context)
        *context = CONTEXT(stack[depth]);
    return SUCCESS;
}

Status cuCtxSetCurrent(void *context) {
    ENTER;
    if (!context) {
        depth = 0;
        return SUCCESS;
    }
    depth = depth ? depth : 1;
    stack[depth - 1] = DEVICE(context);
    return SUCCESS;
}

Status cuCtxGetCurrent(void **context) {
    *context = depth ? CONTEXT(stack[depth - 1]) : NULL;
    return SUCCESS;
}

Status cuCtxCreate_v4(void **context, void *parameters, unsigned flags, int device) {
    ENTER;
    if (!initialized)
        return NOT_INITIALIZED;
    *context = CONTEXT(device);
    return cuCtxPushCurrent_v2(*context);
}

Status cuCtxDetach(void *context) {
    ENTER;
    return SUCCESS;
}

Status cuCtxDestroy_v2(void *context) {
    ENTER;
    return SUCCESS;
}

Status cuCtxGetDevice(int *device) {
    ENTER_CONTEXT;
    *device = fake_current();
    return SUCCESS;
}

Status cuCtxGetApiVersion(void *context, unsigned *version) {
    *version = 13000;
    return SUCCESS;
}

Status cuCtxSynchronize(void) {
    ENTER_UNCAPTURED;
    return fake_drain_device(fake_current());
}

/* NVIDIA's own libraries ask for tables of functions that nobody else knows; there are none. */
Status cuGetExportTable(const void **table, const void *id) {
    *table = NULL;
    return NOT_FOUND;
}

Status cuGetErrorName(Status error, const char **name) {
    *name = "CUDA_ERROR_OF_THE_FAKE";
    return SUCCESS;
}

Status cuGetErrorString(Status error, const char **words) {
    switch (error) {
    case INVALID_VALUE: *words = "invalid argument"; break;
    case OUT_OF_MEMORY: *words = "out of memory"; break;
    case NOT_INITIALIZED: *words = "initialization error"; break;
    case NO_DEVICE: *words = "no CUDA-capable device is detected"; break;
    case INVALID_DEVICE: *words = "invalid device ordinal"; break;
    case INVALID_IMAGE: *words = "device kernel image is invalid"; break;
    case INVALID_CONTEXT: *words = "invalid device context"; break;
    case INVALID_HANDLE: *words = "invalid resource handle"; break;
    case NOT_FOUND: *words = "named symbol not found"; break;
    case ILLEGAL_ADDRESS: *words = "an illegal memory access was encountered"; break;
    case NOT_SUPPORTED: *words = "operation not supported"; break;
    case CAPTURE_UNSUPPORTED: *words = "operation not permitted when stream is capturing"; break;
    case CAPTURE_INVALIDATED: *words = "operation failed due to a previous error during capture"; break;
    default: *words = "unknown error"; break;
    }
    return SUCCESS;
}

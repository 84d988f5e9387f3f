/* CUDA C for g++: enough of it for kernels that use no shared memory and no barrier.
 *
 * Each kernel runs as a loop over its grid and block. Included before the kernels' source instead
 * of the device's own prelude. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict

struct uint3 {
    unsigned x, y, z;
};
static thread_local uint3 blockIdx, threadIdx, blockDim, gridDim;

/* Threads run one after the other here, but a device's host thread is not the only one. */
static inline unsigned atomicAdd(unsigned *at, unsigned value) {
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* As the prelude declares them for the device. */
static inline float from_half(uint16_t bits) {
    _Float16 value;
    memcpy(&value, &bits, sizeof value);
    return (float)value;
}

static inline uint16_t to_half(float value) {
    _Float16 half = (_Float16)value;
    uint16_t bits;
    memcpy(&bits, &half, sizeof bits);
    return bits;
}

namespace fake {

template <class T> T take(const char *packed, size_t &at) {
    at = (at + alignof(T) - 1) / alignof(T) * alignof(T);
    T value;
    memcpy(&value, packed + at, sizeof value);
    at += sizeof value;
    return value;
}

/* The kernel is a constant of the template, so that the loops are compiled around its body. */
template <auto kernel, class... A>
void launch(void (*)(A...), const unsigned grid[3], const unsigned block[3], const void *packed) {
    size_t at = 0;
    /* Braces: the arguments are taken from left to right. */
    std::tuple<A...> arguments{take<A>((const char *)packed, at)...};
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++)
                for (threadIdx.z = 0; threadIdx.z < block[2]; threadIdx.z++)
                    for (threadIdx.y = 0; threadIdx.y < block[1]; threadIdx.y++)
                        for (threadIdx.x = 0; threadIdx.x < block[0]; threadIdx.x++)
                            std::apply(kernel, arguments);
}

template <class T> void put(const void *value, char *packed, size_t &at) {
    at = (at + alignof(T) - 1) / alignof(T) * alignof(T);
    if (value)
        memcpy(packed + at, value, sizeof(T));
    at += sizeof(T);
}

/* Lay out arguments as the driver does; returns their bytes. No parameters: only the bytes. */
template <class... A> size_t pack(void (*)(A...), void **parameters, void *packed) {
    size_t at = 0, index = 0;
    ((put<A>(parameters ? parameters[index] : nullptr, (char *)packed, at), index++), ...);
    return at;
}

} // namespace fake

#define FAKE_KERNEL(name) \
    extern "C" void fake_launch_##name( \
        const unsigned grid[3], const unsigned block[3], const void *packed) { \
        fake::launch<name>(name, grid, block, packed); \
    } \
    extern "C" size_t fake_pack_##name(void **parameters, void *packed) { \
        return fake::pack(name, parameters, packed); \
    }

// One thread makes one element of a result, whose elements are numbered in C order; no thread waits
// for another, and nothing but whole numbers is ever added by two. So the same input gives the same
// bits. Sums are in the order of the processor's way, without fused multiply-add, and round alike.

// A grid of which only some planes across one axis are kept: plane i lies at i modulo their number.
struct Ring {
    int n0, n1, n2; // as it is kept
    int axis;
};

// Along one axis: which elements there make one here, and with which share.
struct Taps {
    const int *first; // of each element, and one more
    const int *index;
    const float *share;
};

struct Place {
    int i0, i1, i2;
};

__device__ __forceinline__ int64_t thread_number() {
    return blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
}

__device__ __forceinline__ int64_t offset_in(Ring ring, int i0, int i1, int i2) {
    if (ring.axis == 0)
        i0 %= ring.n0;
    else if (ring.axis == 1)
        i1 %= ring.n1;
    else
        i2 %= ring.n2;
    return ((int64_t)i0 * ring.n1 + i1) * ring.n2 + i2;
}

// The place of an element among `planes` planes from plane `first`, across the ring's axis.
__device__ __forceinline__ Place place_in(Ring ring, int first, int planes, int64_t number) {
    int n1 = ring.axis == 1 ? planes : ring.n1, n2 = ring.axis == 2 ? planes : ring.n2;
    Place at;
    at.i2 = (int)(number % n2);
    at.i1 = (int)(number / n2 % n1);
    at.i0 = (int)(number / n2 / n1);
    if (ring.axis == 0)
        at.i0 += first;
    else if (ring.axis == 1)
        at.i1 += first;
    else
        at.i2 += first;
    return at;
}

__device__ __forceinline__ int along(Place at, int axis) {
    return axis == 0 ? at.i0 : axis == 1 ? at.i1 : at.i2;
}

__device__ __forceinline__ float held_within(float value, float low, float high) {
    return value < low ? low : value > high ? high : value; // keeps what is not a number
}

__device__ __forceinline__ float number_of(float value) { return value; }
__device__ __forceinline__ float number_of(uint16_t half) { return from_half(half); }

__device__ __forceinline__ void put(float *to, float value) { *to = value; }
__device__ __forceinline__ void put(uint16_t *to, float value) { *to = to_half(value); }

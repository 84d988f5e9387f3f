// What is asked of all values: the largest of each window, and percentiles.

// The largest along one axis of (outer, n, inner), for windows of `size` from each of `starts`.
// Three of them, an axis each, give the largest of every window. `n` may be a ring.
extern "C" __global__ void largest_along(
    const float *values, int n, int64_t inner, const int *starts, int windows, int size, float *out,
    int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    int64_t i = number % inner, window = number / inner % windows, outer = number / inner / windows;
    float largest = -__uint_as_float(0x7f800000u);
    for (int at = starts[window]; at < starts[window] + size; at++) {
        float value = values[(outer * n + at % n) * inner + i];
        largest = value > largest ? value : largest;
    }
    out[number] = largest;
}

// One step of a search for the k-th smallest values by their bits, the highest first. A value's key
// rises with it; counted is, for each prefix of the bits known so far, how many values have each
// continuation. Several counters of each, or all threads would wait for one.
extern "C" __global__ void count_keys(
    const float *values, Ring ring, int first, int planes, const unsigned *prefixes, int searches,
    int shift, int bits, int copies, unsigned *counters, int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    Place at = place_in(ring, first, planes, number);
    unsigned key = __float_as_uint(values[offset_in(ring, at.i0, at.i1, at.i2)]);
    key = key & 0x80000000u ? ~key : key | 0x80000000u;
    unsigned next = key >> shift & ((1u << bits) - 1);
    unsigned known = (unsigned)((unsigned long long)key >> (shift + bits));
    unsigned *own = counters + (int64_t)(blockIdx.x % copies) * searches * (1 << bits);
    for (int search = 0; search < searches; search++)
        if (known == prefixes[search])
            atomicAdd(own + (search << bits) + next, 1u);
}

// What the network says of its windows, added up on its grid; one window after the other.

// Planes that come into the ring begin with nothing said of them.
extern "C" __global__ void clear_planes(
    float *sums, int64_t channel_size, Ring ring, int first, int planes, int64_t in_channel,
    int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    Place at = place_in(ring, first, planes, number % in_channel);
    sums[number / in_channel * channel_size + offset_in(ring, at.i0, at.i1, at.i2)] = 0;
}

struct Window {
    int w0, w1, w2; // its size
    int s0, s1, s2; // its first voxel
};

// `weights` are three rows, one behind the other. What was asked flipped is flipped back.
template <class T>
__device__ __forceinline__ void accumulate(
    const T *answer, Window window, int flips, const float *weights, Ring ring, float *sums,
    int64_t channel_size, int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    int64_t rest = number;
    int x = (int)(rest % window.w2), y = (int)((rest /= window.w2) % window.w1);
    int z = (int)((rest /= window.w1) % window.w0);
    int64_t channel = rest / window.w0;
    int from_z = flips & 1 ? window.w0 - 1 - z : z, from_y = flips & 2 ? window.w1 - 1 - y : y;
    int from_x = flips & 4 ? window.w2 - 1 - x : x;
    float weight = weights[z] * weights[window.w0 + y] * weights[window.w0 + window.w1 + x];
    float said = number_of(
        answer[((channel * window.w0 + from_z) * window.w1 + from_y) * window.w2 + from_x]);
    int64_t to = offset_in(ring, window.s0 + z, window.s1 + y, window.s2 + x);
    sums[channel * channel_size + to] += weight * said;
}

extern "C" __global__ void accumulate_float32(
    const float *answer, Window window, int flips, const float *weights, Ring ring, float *sums,
    int64_t channel_size, int64_t count) {
    accumulate(answer, window, flips, weights, ring, sums, channel_size, count);
}

extern "C" __global__ void accumulate_float16(
    const uint16_t *answer, Window window, int flips, const float *weights, Ring ring, float *sums,
    int64_t channel_size, int64_t count) {
    accumulate(answer, window, flips, weights, ring, sums, channel_size, count);
}

// The weights themselves, where some windows are not asked and the sums have no closed form.
extern "C" __global__ void add_weights(
    Window window, const float *weights, Ring ring, float *sums, int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    int64_t rest = number;
    int x = (int)(rest % window.w2), y = (int)((rest /= window.w2) % window.w1);
    int z = (int)(rest / window.w1);
    sums[offset_in(ring, window.s0 + z, window.s1 + y, window.s2 + x)]
        += weights[z] * weights[window.w0 + y] * weights[window.w0 + window.w1 + x];
}

// A network that gives labels: nothing is added up.
template <class T>
__device__ __forceinline__ void take_labels(
    const T *answer, Window window, Ring ring, uint8_t *labels, int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    int64_t rest = number;
    int x = (int)(rest % window.w2), y = (int)((rest /= window.w2) % window.w1);
    int z = (int)(rest / window.w1);
    labels[offset_in(ring, window.s0 + z, window.s1 + y, window.s2 + x)] = (uint8_t)answer[number];
}

#define TAKE_LABELS(name, T) \
    extern "C" __global__ void name( \
        const T *answer, Window window, Ring ring, uint8_t *labels, int64_t count) { \
        take_labels(answer, window, ring, labels, count); \
    }

TAKE_LABELS(take_labels_uint8, uint8_t)
TAKE_LABELS(take_labels_int32, int32_t)
TAKE_LABELS(take_labels_int64, int64_t)
TAKE_LABELS(take_labels_float32, float)

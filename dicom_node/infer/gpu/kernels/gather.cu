// From stored voxels to the values on the network's grid, and from those to the network's input.

// What the levels of an intensity scale make of a value: none (k = 0), or (v - low) * k + first.
struct Scale {
    float low, k, first, least, most;
};

template <class T>
__device__ __forceinline__ void gather_volume(
    const T *stored, int rows, int columns, int kept, const float *slopes, const float *intercepts,
    float least, float most, Taps s, Taps r, Taps c, int slices_axis, int rows_axis, float pad,
    Scale scale, Ring ring, int first, int planes, float *values, int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    Place at = place_in(ring, first, planes, number);
    int to_s = along(at, slices_axis), to_r = along(at, rows_axis);
    int to_c = along(at, 3 - slices_axis - rows_axis);
    float total = 0;
    for (int i = s.first[to_s]; i < s.first[to_s + 1]; i++) {
        int z = s.index[i];
        const T *slice = stored + (int64_t)(z % kept) * rows * columns;
        float slope = slopes[z], intercept = intercepts[z];
        float in_slice = 0;
        for (int j = c.first[to_c]; j < c.first[to_c + 1]; j++) {
            int x = c.index[j];
            float in_column = 0;
            for (int k = r.first[to_r]; k < r.first[to_r + 1]; k++) {
                float value = (float)slice[(int64_t)r.index[k] * columns + x] * slope;
                value = held_within(value + intercept, least, most);
                in_column += r.share[k] * (value - pad);
            }
            in_slice += c.share[j] * in_column;
        }
        total += s.share[i] * in_slice;
    }
    total += pad;
    if (scale.k != 0)
        total = held_within((total - scale.low) * scale.k + scale.first, scale.least, scale.most);
    values[offset_in(ring, at.i0, at.i1, at.i2)] = total;
}

#define GATHER_VOLUME(name, T) \
    extern "C" __global__ void name( \
        const T *stored, int rows, int columns, int kept, const float *slopes, \
        const float *intercepts, float least, float most, Taps s, Taps r, Taps c, int slices_axis, \
        int rows_axis, float pad, Scale scale, Ring ring, int first, int planes, float *values, \
        int64_t count) { \
        gather_volume( \
            stored, rows, columns, kept, slopes, intercepts, least, most, s, r, c, slices_axis, \
            rows_axis, pad, scale, ring, first, planes, values, count); \
    }

GATHER_VOLUME(gather_volume_uint8, uint8_t)
GATHER_VOLUME(gather_volume_int16, int16_t)
GATHER_VOLUME(gather_volume_uint16, uint16_t)
GATHER_VOLUME(gather_volume_int32, int32_t)
GATHER_VOLUME(gather_volume_float32, float)

// A batch of windows, each from its first voxel. Of slabs, the channels are the neighbouring
// slices, and beyond the ends of the volume stands its last slice again. `flips` has a bit an axis.
template <class T>
__device__ __forceinline__ void gather_windows(
    const float *values, Ring ring, int slices, const int *starts, int channels, int w0, int w1,
    int w2, int flips, T *out, int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    int64_t rest = number;
    int x = (int)(rest % w2), y = (int)((rest /= w2) % w1), z = (int)((rest /= w1) % w0);
    int channel = (int)((rest /= w0) % channels);
    const int *start = starts + 3 * (rest / channels);
    if (flips & 1) {
        z = w0 - 1 - z;
        channel = channels - 1 - channel;
    }
    if (flips & 2)
        y = w1 - 1 - y;
    if (flips & 4)
        x = w2 - 1 - x;
    z += start[0] + channel - channels / 2;
    z = z < 0 ? 0 : z >= slices ? slices - 1 : z;
    put(out + number, values[offset_in(ring, z, start[1] + y, start[2] + x)]);
}

#define GATHER_WINDOWS(name, T) \
    extern "C" __global__ void name( \
        const float *values, Ring ring, int slices, const int *starts, int channels, int w0, \
        int w1, int w2, int flips, T *out, int64_t count) { \
        gather_windows(values, ring, slices, starts, channels, w0, w1, w2, flips, out, count); \
    }

GATHER_WINDOWS(gather_windows_float32, float)
GATHER_WINDOWS(gather_windows_float16, uint16_t)

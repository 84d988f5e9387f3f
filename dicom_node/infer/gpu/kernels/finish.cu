// From what was said on the network's grid to labels on the source's.

#define FEW 8 // taps that are looked up once for all channels: two along each axis

// The way back: taps along the source's axes, and which axis of the network each runs along.
struct Way {
    Taps s, r, c;
    int slices_axis, rows_axis;
    int rows, columns; // of the source
};

// What was said: sums of weighted answers, and what they are to be divided by.
struct Said {
    const float *sums;
    int64_t channel_size;
    const float *weights; // added up; null where the windows tell them
    const float *window_sums; // three rows, as long as the grid, one behind the other
    int n0, n1; // of the grid
    float share; // of one answer: 1 by the networks and mirrors that were asked
    float background, other; // what is held of a voxel that no window saw
};

// Calls `use(i0, i1, i2, share)` for what makes one voxel of the source; i0 is -1 beyond the grid.
template <class Use>
__device__ __forceinline__ void each_tap(const Way &way, int z, int y, int x, Use use) {
    int columns_axis = 3 - way.slices_axis - way.rows_axis;
    for (int i = way.s.first[z]; i < way.s.first[z + 1]; i++)
        for (int j = way.r.first[y]; j < way.r.first[y + 1]; j++)
            for (int k = way.c.first[x]; k < way.c.first[x + 1]; k++) {
                int s = way.s.index[i], r = way.r.index[j], c = way.c.index[k];
                float share = way.r.share[j] * way.c.share[k] * way.s.share[i];
                int i0 = way.slices_axis == 0 ? s : way.rows_axis == 0 ? r : c;
                int i1 = way.slices_axis == 1 ? s : way.rows_axis == 1 ? r : c;
                int i2 = columns_axis == 2 ? c : way.rows_axis == 2 ? r : s;
                if (s < 0 || r < 0 || c < 0)
                    i0 = -1;
                use(i0, i1, i2, share);
            }
}

__device__ __forceinline__ int taps_of(const Way &way, int z, int y, int x) {
    return (way.s.first[z + 1] - way.s.first[z]) * (way.r.first[y + 1] - way.r.first[y])
           * (way.c.first[x + 1] - way.c.first[x]);
}

// By what the sum of a voxel is multiplied to be the mean; 0 if no window saw it.
__device__ __forceinline__ float mean_of(const Said &said, int64_t at, int i0, int i1, int i2) {
    float weight = said.weights
        ? said.weights[at]
        : said.window_sums[i0] * said.window_sums[said.n0 + i1]
              * said.window_sums[said.n0 + said.n1 + i2];
    return weight > 0 ? said.share / weight : 0;
}

// What is said of one voxel of the source in one channel; for any number of taps.
__device__ __forceinline__ float
mixed(const Said &said, const Way &way, Ring ring, int z, int y, int x, int channel) {
    float total = 0;
    each_tap(way, z, y, x, [&](int i0, int i1, int i2, float share) {
        int64_t at = i0 < 0 ? 0 : offset_in(ring, i0, i1, i2);
        float mean = i0 < 0 ? 0 : mean_of(said, at, i0, i1, i2);
        if (mean == 0)
            total += share * (channel ? said.other : said.background);
        else
            total += share * mean * said.sums[channel * said.channel_size + at];
    });
    return total;
}

// Exclusive classes: the channel of which most is said, of equal ones the first.
extern "C" __global__ void likeliest(
    Said said, Way way, Ring ring, int channels, int first, uint8_t *labels, int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    int x = (int)(number % way.columns), y = (int)(number / way.columns % way.rows);
    int z = first + (int)(number / way.columns / way.rows);
    int taps = taps_of(way, z, y, x), best = 0;
    float most = 0;
    if (taps > FEW) {
        for (int channel = 0; channel < channels; channel++) {
            float value = mixed(said, way, ring, z, y, x, channel);
            if (channel == 0 || value > most) {
                best = channel;
                most = value;
            }
        }
    } else if (taps) {
        int64_t places[FEW];
        float shares[FEW], unseen = 0;
        int n = 0;
#pragma unroll
        for (int i = 0; i < FEW; i++) {
            places[i] = 0;
            shares[i] = 0;
        }
        each_tap(way, z, y, x, [&](int i0, int i1, int i2, float share) {
            int64_t at = i0 < 0 ? 0 : offset_in(ring, i0, i1, i2);
            float mean = i0 < 0 ? 0 : mean_of(said, at, i0, i1, i2);
            if (mean == 0)
                unseen += share;
            places[n] = at;
            shares[n++] = share * mean;
        });
        for (int channel = 0; channel < channels; channel++) {
            const float *sums = said.sums + channel * said.channel_size;
            float value = 0;
#pragma unroll
            for (int i = 0; i < FEW; i++)
                if (shares[i] != 0)
                    value += shares[i] * sums[places[i]];
            if (unseen != 0)
                value += unseen * (channel ? said.other : said.background);
            if (channel == 0 || value > most) {
                best = channel;
                most = value;
            }
        }
    }
    labels[number] = (uint8_t)best;
}

// Independent classes: a bit a voxel and channel, eight voxels in a byte, the first the lowest.
extern "C" __global__ void above(
    Said said, Way way, Ring ring, const float *thresholds, int first, int64_t voxels,
    int64_t bytes, uint8_t *planes, int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    int channel = (int)(number / bytes);
    int64_t voxel = number % bytes * 8;
    unsigned bits = 0;
    for (int bit = 0; bit < 8 && voxel + bit < voxels; bit++) {
        int64_t at = voxel + bit;
        int x = (int)(at % way.columns), y = (int)(at / way.columns % way.rows);
        int z = first + (int)(at / way.columns / way.rows);
        if (taps_of(way, z, y, x)
            && mixed(said, way, ring, z, y, x, channel) >= thresholds[channel])
            bits |= 1u << bit;
    }
    planes[number] = (uint8_t)bits;
}

// Labels: the one that fills most of the voxel, of equal ones the smallest.
extern "C" __global__ void fullest(
    const uint8_t *said, Way way, Ring ring, int first, uint8_t *labels, int64_t count) {
    int64_t number = thread_number();
    if (number >= count)
        return;
    int x = (int)(number % way.columns), y = (int)(number / way.columns % way.rows);
    int z = first + (int)(number / way.columns / way.rows);
    int best = 0, label = -1;
    float most = 0;
    while (true) {
        int next = 256;
        each_tap(way, z, y, x, [&](int i0, int i1, int i2, float) {
            int there = i0 < 0 ? 0 : said[offset_in(ring, i0, i1, i2)];
            next = there > label && there < next ? there : next;
        });
        if (next == 256)
            break;
        float share = 0;
        each_tap(way, z, y, x, [&](int i0, int i1, int i2, float part) {
            if ((i0 < 0 ? 0 : said[offset_in(ring, i0, i1, i2)]) == next)
                share += part;
        });
        if (share > most) {
            best = next;
            most = share;
        }
        label = next;
    }
    labels[number] = (uint8_t)best;
}

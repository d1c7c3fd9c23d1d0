// The CuPy backend's kernels, with common.cuh before them. Sizes have 64 bits, and loops stride over the grid, so that any grid
// is right. Blocks have at most 256 threads. Pointers are to device memory; nothing is allocated
// and nothing waits. Sums are added in an order that depends on sizes and grid alone, so that
// equal launches give equal bits.

// ---- random numbers ------------------------------------------------------------------------

// The four words of block `index` of the draw that key = {seed, stream, draw, start, whole} names,
// by Philox4x64-10 (Salmon et al., SC 2011). Counters start at one, as NumPy's do.
INLINE void philox(Word index, const Word* key, Word words[4]) {
    Word c0 = index + 1, c1 = key[2], c2 = 0, c3 = 0, k0 = key[0], k1 = key[1];
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const Word high0 = __umul64hi(0xD2E7470EE14C6C93ull, c0);
        const Word high1 = __umul64hi(0xCA5A826395121157ull, c2);
        const Word low0 = 0xD2E7470EE14C6C93ull * c0;
        const Word low1 = 0xCA5A826395121157ull * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B97F4A7C15ull;
        k1 += 0xBB67AE8584CAA73Bull;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

// The upper 24 of 32 bits as a number in [0, 1).
INLINE float fraction(Word bits) { return (float)((unsigned)bits >> 8) * 0x1p-24f; }

// Eight uniform numbers, two of each word, its lower half the first.
INLINE void uniform_block(Word index, const Word* key, float u[8]) {
    Word words[4];
    philox(index, key, words);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        u[2 * k] = fraction(words[k]);
        u[2 * k + 1] = fraction(words[k] >> 32);
    }
}

// Number j of the draw alone.
INLINE float uniform_number(Size j, const Word* key) {
    Word words[4];
    philox(j / 8, key, words);
    const Word low = j & 2 ? words[1] : words[0], high = j & 2 ? words[3] : words[2];
    const Word word = j & 4 ? high : low;
    return fraction(j & 1 ? word >> 32 : word);
}

template <typename T> struct alignas(16) Vector {
    T of[16 / sizeof(T)];
};

// out[first .. first+7] = v, as far as out has that many of its n elements.
template <typename T> INLINE void store_eight(T* out, Size first, Size n, const T v[8]) {
    constexpr int WIDE = 16 / sizeof(T);
    const bool whole = first + 8 <= n && (reinterpret_cast<size_t>(out + first) & 15) == 0;
    Vector<T> x;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        x.of[k % WIDE] = v[k];
        if (!whole && first + k < n) out[first + k] = v[k];
        if (whole && k % WIDE == WIDE - 1)
            *reinterpret_cast<Vector<T>*>(out + first + k / WIDE * WIDE) = x;
    }
}

// out[i] = the draw's number start + i.
template <typename T> INLINE void uniform(T* out, Size n, const Word* key) {
    const Size start = key[3];
    if (start % 8) {
        for (Size i = thread_index(); i < n; i += thread_count())
            out[i] = uniform_number(start + i, key);
        return;
    }
    for (Size block = thread_index(); 8 * block < n; block += thread_count()) {
        float u[8];
        T v[8];
        uniform_block(start / 8 + block, key, u);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] = u[k];
        store_eight(out, 8 * block, n, v);
    }
}

// v[k] = v[k + by] for k < 8 and 0 <= by < 8, in steps known to the compiler: an index that it
// does not know would put v in local memory.
INLINE void shift(float v[16], int by) {
#pragma unroll
    for (int step = 4; step; step /= 2) {
#pragma unroll
        for (int k = 0; k < 8 + step - 1; ++k)
            if (by & step) v[k] = v[k + step];
    }
}

// Standard normal numbers by Box and Muller: uniform numbers (u, v), h = ceil(whole / 2) apart,
// give √(-2 ln(1 - u)) cos 2πv and √(-2 ln(1 - u)) sin 2πv at their two places of the draw, of
// which out has those from `start` on: both of every pair, unless it is a part.
template <typename T> INLINE void normal(T* out, Size n, const Word* key) {
    const Size start = key[3], whole = key[4], half = (whole + 1) / 2;
    if (start || whole != n) {
        for (Size i = thread_index(); i < n; i += thread_count()) {
            const bool sine = start + i >= half;
            const Size first = sine ? start + i - half : start + i;
            const T radius = sqrt(T(-2) * log(T(1) - T(uniform_number(first, key))));
            T s, c;
            sincospi(T(2) * T(uniform_number(half + first, key)), &s, &c);
            out[i] = radius * (sine ? s : c);
        }
        return;
    }
    const int by = half % 8;
    for (Size block = thread_index(); 8 * block < half; block += thread_count()) {
        float u[8], v[16];
        uniform_block(block, key, u);
        uniform_block(half / 8 + block, key, v);
        if (by) {
            uniform_block(half / 8 + block + 1, key, v + 8);
            shift(v, by);
        }
        T cosines[8], sines[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const T radius = sqrt(T(-2) * log(T(1) - T(u[k])));
            T s, c;
            sincospi(T(2) * T(v[k]), &s, &c);
            cosines[k] = radius * c;
            sines[k] = radius * s;
        }
        store_eight(out, 8 * block, half, cosines);
        store_eight(out + half, 8 * block, n - half, sines);
    }
}

// ---- rows by index -------------------------------------------------------------------------

INLINE Size clamp(Size i, Size n) { return i < 0 ? 0 : i < n ? i : n - 1; }

// out[i, :] = array[index[*start + i], :]; without start, from index[0]. Rows have `columns`
// units. A negative index counts from the end; what lies outside either array is replaced by the
// nearest that lies inside. Threads along x share a row.
template <typename Unit>
INLINE void gather_rows(const Unit* array, Size array_rows, const Size* index, Size index_size,
                        const Size* start, Unit* out, Size rows, Size columns) {
    if (array_rows <= 0 || index_size <= 0) return;
    const Size first = start ? clamp(*start, index_size) : 0;
    const Size step_x = thread_count(), step_y = (Size)gridDim.y * blockDim.y;
    for (Size i = (Size)blockIdx.y * blockDim.y + threadIdx.y; i < rows; i += step_y) {
        const Size named = index[clamp(first + i, index_size)];
        const Size row = clamp(named < 0 ? named + array_rows : named, array_rows);
        const Unit* from = array + row * columns;
        Unit* to = out + i * columns;
#pragma unroll 1
        for (Size j = thread_index(); j < columns; j += step_x) to[j] = from[j];
    }
}

// ---- reductions ----------------------------------------------------------------------------

// out[j] = Σ a[i, j] over i, added to what out holds with `accumulate`. Threads along x have a
// column each; those along y, and the grid's blocks along y, share its rows. Where such blocks are
// several, tickets has a zero for every blockDim.x columns, and partial is (gridDim.y, columns).
template <typename T>
INLINE void sum_columns(const T* a, T* out, Size rows, Size columns, int accumulate,
                        unsigned* tickets, volatile T* partial) {
    const int at = threadIdx.y * blockDim.x + threadIdx.x;
    const Size first = (Size)blockIdx.y * blockDim.y + threadIdx.y;
    const Size step = (Size)gridDim.y * blockDim.y;
    for (Size group = blockIdx.x; group * blockDim.x < columns; group += gridDim.x) {
        const Size column = group * blockDim.x + threadIdx.x;
        const bool writes = threadIdx.y == 0 && column < columns;
        T sum = 0;
        if (column < columns) {
            const T* x = a + first * columns + column;
#pragma unroll 4
            for (Size i = first; i < rows; i += step, x += step * columns) sum += *x;
        }
        sum = fold<Sum>(sum, at, blockDim.y, blockDim.x);
        if (gridDim.y > 1) {
            if (writes) partial[blockIdx.y * columns + column] = sum;
            if (!is_last(tickets + group, gridDim.y)) continue;
            sum = 0;
            if (column < columns) {
#pragma unroll 1
                for (unsigned k = threadIdx.y; k < gridDim.y; k += blockDim.y)
                    sum += partial[k * columns + column];
            }
            sum = fold<Sum>(sum, at, blockDim.y, blockDim.x);
        }
        if (writes) out[column] = accumulate ? out[column] + sum : sum;
    }
}

// *out = Σ a². Where blocks are several, the ticket is zero and partial has one element for each.
template <typename T>
INLINE void sum_squares(const T* a, T* out, Size n, unsigned* ticket, volatile T* partial) {
    T sum = 0;
#pragma unroll 4
    for (Size i = thread_index(); i < n; i += thread_count()) sum += a[i] * a[i];
    sum = fold<Sum>(sum, threadIdx.x, blockDim.x, 1);
    if (gridDim.x > 1) {
        if (threadIdx.x == 0) partial[blockIdx.x] = sum;
        if (!is_last(ticket, gridDim.x)) return;
        sum = 0;
#pragma unroll 1
        for (unsigned k = threadIdx.x; k < gridDim.x; k += blockDim.x) sum += partial[k];
        sum = fold<Sum>(sum, threadIdx.x, blockDim.x, 1);
    }
    if (threadIdx.x == 0) *out = sum;
}

// ---- kernels -------------------------------------------------------------------------------

extern "C" {

__global__ void BOUNDED fill_uniform(Out<float> out, Size n, In<Word> key)
{ uniform(out, n, key); }
__global__ void BOUNDED fill_uniform_double(Out<double> out, Size n, In<Word> key)
{ uniform(out, n, key); }
__global__ void BOUNDED fill_normal(Out<float> out, Size n, In<Word> key)
{ normal(out, n, key); }
__global__ void BOUNDED fill_normal_double(Out<double> out, Size n, In<Word> key)
{ normal(out, n, key); }

__global__ void BOUNDED gather_rows_1(In<unsigned char> array, Size array_rows, In<Size> index,
    Size index_size, In<Size> start, Out<unsigned char> out, Size rows, Size columns)
{ gather_rows(array, array_rows, index, index_size, start, out, rows, columns); }
__global__ void BOUNDED gather_rows_4(In<unsigned> array, Size array_rows, In<Size> index,
    Size index_size, In<Size> start, Out<unsigned> out, Size rows, Size columns)
{ gather_rows(array, array_rows, index, index_size, start, out, rows, columns); }
__global__ void BOUNDED gather_rows_8(In<uint2> array, Size array_rows, In<Size> index,
    Size index_size, In<Size> start, Out<uint2> out, Size rows, Size columns)
{ gather_rows(array, array_rows, index, index_size, start, out, rows, columns); }
__global__ void BOUNDED gather_rows_16(In<uint4> array, Size array_rows, In<Size> index,
    Size index_size, In<Size> start, Out<uint4> out, Size rows, Size columns)
{ gather_rows(array, array_rows, index, index_size, start, out, rows, columns); }

__global__ void BOUNDED sum_columns_float(In<float> a, Out<float> out, Size rows, Size columns,
    int accumulate, unsigned* tickets, volatile float* partial)
{ sum_columns(a, out, rows, columns, accumulate, tickets, partial); }
__global__ void BOUNDED sum_columns_double(In<double> a, Out<double> out, Size rows, Size columns,
    int accumulate, unsigned* tickets, volatile double* partial)
{ sum_columns(a, out, rows, columns, accumulate, tickets, partial); }

__global__ void BOUNDED sum_squares_float(In<float> a, Out<float> out, Size n, unsigned* ticket,
    volatile float* partial)
{ sum_squares(a, out, n, ticket, partial); }
__global__ void BOUNDED sum_squares_double(In<double> a, Out<double> out, Size n, unsigned* ticket,
    volatile double* partial)
{ sum_squares(a, out, n, ticket, partial); }

}  // extern "C"

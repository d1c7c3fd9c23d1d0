// The CuPy backend's kernels of images, channels last, after kernels.cu. A thread makes elements of
// the output, one after another, from all that they depend on: nothing is added by several threads,
// so that equal launches give equal bits.

// Elements are counted with 32 bits: 64-bit quotients are calls, round which registers are spilled.

typedef unsigned Count;

// A window: rows and columns of images, of places and of the window; strides, what is put before an
// image, dilations; images, channels, and groups of these.
struct Window {
    int height, width, down, across, rows, columns;
    int stride_y, stride_x, top, left, step_y, step_x, images, channels, groups;
};

// The row of an image that row i of a window at row `place` sees, outside of it too.
INLINE int row_of(const Window& w, int place, int i) {
    return place * w.stride_y - w.top + i * w.step_y;
}

INLINE int column_of(const Window& w, int place, int j) {
    return place * w.stride_x - w.left + j * w.step_x;
}

// The place whose window sees row y by its row i, or -1 for none.
INLINE int row_place(const Window& w, int y, int i) {
    const int from = y + w.top - i * w.step_y, at = from / w.stride_y;
    return from >= 0 && at < w.down && at * w.stride_y == from ? at : -1;
}

INLINE int column_place(const Window& w, int x, int j) {
    const int from = x + w.left - j * w.step_x, at = from / w.stride_x;
    return from >= 0 && at < w.across && at * w.stride_x == from ? at : -1;
}

// The last of some numbers that i counts, which then counts the rest.
INLINE int last_of(Count* i, Count n) {
    const Count rest = *i / n, found = *i - rest * n;
    *i = rest;
    return found;
}

// out (groups, images, down, across, rows, columns, channels / groups): the windows, zeros outside.
template <typename T> INLINE void lower(const T* x, T* out, const Window& w, Count n) {
    const int each = w.channels / w.groups;
    for (Size at = thread_index(); at < n; at += thread_count()) {
        Count rest = at;
        const int c = last_of(&rest, each), j = last_of(&rest, w.columns);
        const int i = last_of(&rest, w.rows), q = last_of(&rest, w.across);
        const int p = last_of(&rest, w.down), image = last_of(&rest, w.images);
        const int y = row_of(w, p, i), z = column_of(w, q, j);
        const bool inside = y >= 0 && y < w.height && z >= 0 && z < w.width;
        out[at] = inside
            ? x[((Size(image) * w.height + y) * w.width + z) * w.channels + rest * each + c] : T(0);
    }
}

// out (images, height, width, channels): of each pixel the sum over the windows that see it of what
// `lowered` has of it, in the order of the window's pixels.
template <typename T> INLINE void raise(const T* lowered, T* out, const Window& w, Count n) {
    const int each = w.channels / w.groups;
    for (Size at = thread_index(); at < n; at += thread_count()) {
        Count rest = at;
        const int c = last_of(&rest, w.channels), z = last_of(&rest, w.width);
        const int y = last_of(&rest, w.height), group = c / each;
        T sum = 0;
#pragma unroll 1
        for (int i = 0; i < w.rows; ++i) {
            const int p = row_place(w, y, i);
            if (p < 0) continue;
            const Count line = ((group * w.images + rest) * w.down + p) * w.across;
#pragma unroll 1
            for (int j = 0; j < w.columns; ++j) {
                const int q = column_place(w, z, j);
                if (q < 0) continue;
                const Count tap = ((line + q) * w.rows + i) * w.columns + j;
                sum += lowered[tap * each + c - group * each];
            }
        }
        out[at] = sum;
    }
}

// y (images, down, across, channels): the largest of each window, NaN before all; where: which of
// its pixels that is, the first one.
template <typename T, typename Place>
INLINE void max_pool(const T* x, T* y, Place* where, const Window& w, Count n) {
    for (Size at = thread_index(); at < n; at += thread_count()) {
        Count rest = at;
        const int c = last_of(&rest, w.channels), q = last_of(&rest, w.across);
        const int p = last_of(&rest, w.down);
        T best = Max::first<T>();
        int found = 0;
        bool seen = false;
#pragma unroll 1
        for (int i = 0; i < w.rows; ++i) {
            const int row = row_of(w, p, i);
            if (row < 0 || row >= w.height) continue;
#pragma unroll 1
            for (int j = 0; j < w.columns; ++j) {
                const int column = column_of(w, q, j);
                if (column < 0 || column >= w.width) continue;
                const T v = x[((Size(rest) * w.height + row) * w.width + column) * w.channels + c];
                if (!seen || v > best || (v != v && best == best)) {
                    best = v;
                    found = i * w.columns + j;
                    seen = true;
                }
            }
        }
        y[at] = best;
        where[at] = Place(found);
    }
}

// out (images, height, width, channels): of each pixel the sum of `grad` where it was the largest.
template <typename T, typename Place>
INLINE void max_pool_input(const T* grad, const Place* where, T* out, const Window& w, Count n) {
    for (Size at = thread_index(); at < n; at += thread_count()) {
        Count rest = at;
        const int c = last_of(&rest, w.channels), z = last_of(&rest, w.width);
        const int y = last_of(&rest, w.height);
        T sum = 0;
#pragma unroll 1
        for (int i = 0; i < w.rows; ++i) {
            const int p = row_place(w, y, i);
            if (p < 0) continue;
#pragma unroll 1
            for (int j = 0; j < w.columns; ++j) {
                const int q = column_place(w, z, j);
                if (q < 0) continue;
                const Size from = ((Size(rest) * w.down + p) * w.across + q) * w.channels + c;
                if (where[from] == Place(i * w.columns + j)) sum += grad[from];
            }
        }
        out[at] = sum;
    }
}

// out[v, :] += rows[t, :] for every t, in order, of which index[t] is v. Threads along x share a
// row of out, and each goes through the whole index.
template <typename T>
INLINE void add_rows(const T* rows, const Size* index, T* out, Size count, Size size, Size columns) {
    const Size step_y = (Size)gridDim.y * blockDim.y;
    for (Size v = (Size)blockIdx.y * blockDim.y + threadIdx.y; v < size; v += step_y) {
#pragma unroll 1
        for (Size j = thread_index(); j < columns; j += thread_count()) {
            T sum = out[v * columns + j];
#pragma unroll 4
            for (Size t = 0; t < count; ++t)
                if (clamp(index[t], size) == v) sum += rows[t * columns + j];
            out[v * columns + j] = sum;
        }
    }
}

#define WINDOW                                                                                    \
    int height, int width, int down, int across, int rows, int columns, int stride_y, int stride_x, \
        int top, int left, int step_y, int step_x, int images, int channels, int groups
#define GIVEN                                                                                     \
    Window{height, width, down, across, rows, columns, stride_y, stride_x, top, left, step_y,     \
           step_x, images, channels, groups}

extern "C" {

__global__ void BOUNDED lower_float(In<float> x, Out<float> out, Count n, WINDOW)
{ lower(x, out, GIVEN, n); }
__global__ void BOUNDED lower_double(In<double> x, Out<double> out, Count n, WINDOW)
{ lower(x, out, GIVEN, n); }
__global__ void BOUNDED raise_float(In<float> lowered, Out<float> out, Count n, WINDOW)
{ raise(lowered, out, GIVEN, n); }
__global__ void BOUNDED raise_double(In<double> lowered, Out<double> out, Count n, WINDOW)
{ raise(lowered, out, GIVEN, n); }

__global__ void BOUNDED max_pool_float_1(In<float> x, Out<float> y, Out<unsigned char> where, Count n,
    WINDOW)
{ max_pool(x, y, where, GIVEN, n); }
__global__ void BOUNDED max_pool_float_2(In<float> x, Out<float> y, Out<unsigned short> where, Count n,
    WINDOW)
{ max_pool(x, y, where, GIVEN, n); }
__global__ void BOUNDED max_pool_double_1(In<double> x, Out<double> y, Out<unsigned char> where,
    Count n, WINDOW)
{ max_pool(x, y, where, GIVEN, n); }
__global__ void BOUNDED max_pool_double_2(In<double> x, Out<double> y, Out<unsigned short> where,
    Count n, WINDOW)
{ max_pool(x, y, where, GIVEN, n); }

__global__ void BOUNDED max_pool_input_float_1(In<float> grad, In<unsigned char> where,
    Out<float> out, Count n, WINDOW)
{ max_pool_input(grad, where, out, GIVEN, n); }
__global__ void BOUNDED max_pool_input_float_2(In<float> grad, In<unsigned short> where,
    Out<float> out, Count n, WINDOW)
{ max_pool_input(grad, where, out, GIVEN, n); }
__global__ void BOUNDED max_pool_input_double_1(In<double> grad, In<unsigned char> where,
    Out<double> out, Count n, WINDOW)
{ max_pool_input(grad, where, out, GIVEN, n); }
__global__ void BOUNDED max_pool_input_double_2(In<double> grad, In<unsigned short> where,
    Out<double> out, Count n, WINDOW)
{ max_pool_input(grad, where, out, GIVEN, n); }

__global__ void BOUNDED add_rows_float(In<float> rows, In<Size> index, Out<float> out, Size count,
    Size size, Size columns)
{ add_rows(rows, index, out, count, size, columns); }
__global__ void BOUNDED add_rows_double(In<double> rows, In<Size> index, Out<double> out, Size count,
    Size size, Size columns)
{ add_rows(rows, index, out, count, size, columns); }

}  // extern "C"

// What kernels.cu and the loops that source.py writes have in common. Blocks have at most 256 threads.

typedef long long Size;
typedef unsigned long long Word;
constexpr int BLOCK = 256, WARP = 32;
#define LEAST (-9223372036854775807 - 1)

template <typename T> using In = const T* __restrict__;
template <typename T> using Out = T* __restrict__;

#define INLINE __device__ __forceinline__

INLINE Size thread_index() { return (Size)blockIdx.x * blockDim.x + threadIdx.x; }
INLINE Size thread_count() { return (Size)gridDim.x * blockDim.x; }
#define BOUNDED __launch_bounds__(BLOCK)

// Elements that are read and written together, at an address that is a multiple of their size.
template <typename T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
    T of[N];
};

template <int N, typename T> INLINE Pack<T, N> load(const T* from) {
    return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <int N, typename T> INLINE void store(T* to, const Pack<T, N>& x) {
    *reinterpret_cast<Pack<T, N>*>(to) = x;
}

// The whole number towards zero, and the least of all for what has none.
template <typename T> INLINE Size whole(T x) {
    return x >= T(LEAST) && x < -T(LEAST) ? Size(x) : LEAST;
}

// The nearest bfloat16, ties to even.
INLINE unsigned short bfloat16(float x) {
    const unsigned bits = __float_as_uint(x);
    return x == x ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0;
}

// How numbers are put together, and what that begins with. NaN is larger and smaller than any.
struct Sum {
    template <typename T> INLINE static T first() { return 0; }
    template <typename T> INLINE static T of(T a, T b) { return a + b; }
    INLINE static Size of(Size a, Size b) { return Size(Word(a) + Word(b)); }
};
struct Max {
    template <typename T> INLINE static T first() { return T(-__int_as_float(0x7f800000)); }
    template <typename T> INLINE static T of(T a, T b) { return a >= b || a != a ? a : b; }
};
struct Min {
    template <typename T> INLINE static T first() { return T(__int_as_float(0x7f800000)); }
    template <typename T> INLINE static T of(T a, T b) { return a <= b || a != a ? a : b; }
};
template <> INLINE Size Max::first<Size>() { return LEAST; }
template <> INLINE Size Min::first<Size>() { return -(LEAST + 1); }
template <> INLINE bool Max::first<bool>() { return false; }
template <> INLINE bool Min::first<bool>() { return true; }

// a / b for numbers below 2^32: one of 64 bits is a call, round which registers are spilled.
INLINE Size quotient(Size a, Size b) { return (unsigned)a / (unsigned)b; }

// The lanes of this thread's warp that are among the same `width` neighbours, a power of two.
INLINE unsigned neighbours(int width) {
    const int lane = (threadIdx.y * blockDim.x + threadIdx.x) % WARP;
    return width >= WARP ? ~0u : ((1u << width) - 1) << (lane & ~(width - 1));
}

// What `width` neighbours have, put together: a part of a warp, a warp, or the whole block.
template <class O, typename T> INLINE T fold(T value, int width) {
    const unsigned lanes = neighbours(width);
    for (int bits = (width < WARP ? width : WARP) / 2; bits; bits /= 2)
        value = O::of(value, T(__shfl_xor_sync(lanes, value, bits)));
    if (width <= WARP) return value;
    __shared__ T cells[BLOCK / WARP];
    __syncthreads();  // what the last call left has been read
    if (threadIdx.x % WARP == 0) cells[threadIdx.x / WARP] = value;
    __syncthreads();
    value = cells[0];
    for (int k = 1; k < width / WARP; ++k) value = O::of(value, cells[k]);
    return value;
}

// The same over the threads of a block whose places are at, at ± stride, ..., `count` of them.
template <class O, typename T> INLINE T fold(T value, int at, int count, int stride) {
    __shared__ T cells[BLOCK];
    __syncthreads();  // what the last call left has been read
    cells[at] = value;
    __syncthreads();
    while (count > 1) {
        const int half = (count + 1) / 2;
        if (at / stride < count - half) cells[at] = O::of(cells[at], cells[at + half * stride]);
        count = half;
        __syncthreads();
    }
    return cells[at % stride];
}

// Waits for those that fold together.
INLINE void meet(int width) {
    if (width <= WARP) __syncwarp(neighbours(width));
    else __syncthreads();
}
INLINE void meet(int, int, int) { __syncthreads(); }

// Whether this block is the last of `count` to come here; what the others wrote before can then
// be read. The last one leaves the ticket at zero, as it found it, for the next launch.
INLINE bool is_last(unsigned* ticket, unsigned count) {
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        __threadfence();
        last = atomicAdd(ticket, 1u) == count - 1;
        if (last) *ticket = 0;
        __threadfence();
    }
    __syncthreads();
    return last;
}

// partial[0], partial[stride], ..., `count` of them, put together by the threads whose places are
// at, at ± across, ..., `down` of them.
template <class O, typename T>
INLINE T collect(const volatile T* partial, Size stride, unsigned count, int at, int down,
                 int across) {
    T found = O::template first<T>();
#pragma unroll 1
    for (unsigned k = at / across; k < count; k += down) found = O::of(found, T(partial[k * stride]));
    return fold<O>(found, at, down, across);
}

// The same by one thread.
template <class O, typename T>
INLINE T whole_column(const volatile T* partial, Size stride, unsigned count) {
    T found = partial[0];
#pragma unroll 1
    for (unsigned k = 1; k < count; ++k) found = O::of(found, T(partial[k * stride]));
    return found;
}

// partial[q] = what partial[q], partial[q + length], ..., `count` of them, are together, for all
// q < length, by a block of which each thread wrote some.
template <class O, typename T>
INLINE void put_together(volatile T* partial, Size length, unsigned count, int at) {
    __syncthreads();
    for (Size q = at; q < length; q += BLOCK)
        partial[q] = whole_column<O>(partial + q, length, count);
}

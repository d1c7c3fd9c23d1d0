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

// The sum over the threads of a block whose places are at, at ± stride, ..., `count` of them.
template <typename T> INLINE T add_up(T value, int at, int count, int stride) {
    __shared__ T cells[BLOCK];
    __syncthreads();  // what the last call left has been read
    cells[at] = value;
    __syncthreads();
    while (count > 1) {
        const int half = (count + 1) / 2;
        if (at / stride < count - half) cells[at] += cells[at + half * stride];
        count = half;
        __syncthreads();
    }
    return cells[at % stride];
}

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

// The sum of partial[0], partial[stride], ..., `count` of them, by the threads whose places are at,
// at ± across, ..., `down` of them.
template <typename T>
INLINE T collect(const volatile T* partial, Size stride, unsigned count, int at, int down,
                 int across) {
    T sum = 0;
#pragma unroll 1
    for (unsigned k = at / across; k < count; k += down) sum += partial[k * stride];
    return add_up(sum, at, down, across);
}

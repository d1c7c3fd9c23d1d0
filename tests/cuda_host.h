// Runs CUDA kernels on the host, with what of CUDA C++ the kernels use. Each thread of a block is
// a fiber that gives way where it waits for others; blocks run one after another. So a race
// between blocks cannot show; one between threads shows where the other order of threads gives
// something else. Not here: dynamic shared memory, PTX, CUB, cooperative groups, half precision.
// The main() that cuda_host.py adds runs one launch, which it reads from its input.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace host {

constexpr unsigned THREADS = 1024, STACK = 1 << 17;
struct Barrier {
    unsigned mask, arrived, generation;
};
struct Warp {
    Barrier barriers[64];  // one for every mask that was met with, and a free one
    unsigned long long slots[32];
    unsigned alive;
};
struct Fiber {
    ucontext_t context;
    char* stack;
    dim3 index;
    unsigned lane, warp;
    bool done;
};

static Fiber fibers[THREADS], *self;
static Warp warps[THREADS / 32];
static Barrier all;
static unsigned alive;
static unsigned long long progress;
static ucontext_t scheduler;
static void (*kernel)(void**);
constexpr int MOST = 256;  // arguments of a kernel
static void* args[MOST];

[[noreturn]] inline void fail(const char* why) {
    fprintf(stderr, "%s, in thread (%u, %u, %u) of block (%u, %u, %u)\n", why, threadIdx.x,
            threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z);
    exit(3);
}

// Waits until as many threads have come as `expected`, which falls when threads end, says.
template <class Expected>
void meet(Barrier& barrier, Expected expected) {
    const unsigned mine = barrier.generation;
    ++barrier.arrived, ++progress;
    while (barrier.generation == mine) {
        if (barrier.arrived >= expected()) {
            barrier.arrived = 0, ++barrier.generation, ++progress;
            return;
        }
        swapcontext(&self->context, &scheduler);
    }
}

inline void meet_warp(unsigned mask) {
    Warp& warp = warps[self->warp];
    if (!(mask >> self->lane & 1)) fail("a thread is not in its own mask");
    Barrier* barrier = warp.barriers;
    while (barrier->mask && barrier->mask != mask) ++barrier;
    if (barrier == warp.barriers + 63) fail("a warp meets with more than 63 masks");
    barrier->mask = mask;
    meet(*barrier, [&] { return unsigned(__builtin_popcount(mask & warp.alive)); });
}

// What lane `source` gives; all bits set, which is NaN, where it takes no part.
template <class T>
T exchange(unsigned mask, T value, unsigned source) {
    static_assert(sizeof(T) <= 8);
    Warp& warp = warps[self->warp];
    memcpy(&warp.slots[self->lane], &value, sizeof(T));
    meet_warp(mask);
    memset(&value, 0xff, sizeof(T));
    if (mask & warp.alive & 1u << source) memcpy(&value, &warp.slots[source], sizeof(T));
    meet_warp(mask);
    return value;
}

inline void thread() {
    kernel(args);
    self->done = true;
    warps[self->warp].alive &= ~(1u << self->lane);
    --alive, ++progress;
}

inline void run_block(bool backward) {
    const unsigned n = blockDim.x * blockDim.y * blockDim.z;
    if (n > THREADS) fail("a block has more than 1024 threads");
    memset(warps, 0, sizeof(warps));
    all = {}, alive = n;
    for (unsigned i = 0; i < n; ++i) {
        Fiber& f = fibers[i];
        f.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        f.lane = i % 32, f.warp = i / 32, f.done = false;
        warps[f.warp].alive |= 1u << f.lane;
        getcontext(&f.context);
        if (!f.stack) f.stack = static_cast<char*>(malloc(STACK));
        f.context.uc_stack.ss_sp = f.stack, f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = &scheduler;
        makecontext(&f.context, thread, 0);
    }
    while (alive) {
        const unsigned long long before = progress;
        for (unsigned i = 0; i < n; ++i) {
            self = &fibers[backward ? n - 1 - i : i];
            if (self->done) continue;
            threadIdx = self->index;
            swapcontext(&scheduler, &self->context);
        }
        if (progress == before) fail("some threads wait for others that never come");
    }
}

inline void run_grid(bool backward) {
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    for (unsigned k = 0; k < blocks; ++k) {
        const unsigned i = backward ? blocks - 1 - k : k;
        blockIdx = {i % gridDim.x, i / gridDim.x % gridDim.y, i / gridDim.x / gridDim.y};
        run_block(backward);
    }
}

// ---- launches ------------------------------------------------------------------------------

struct Kernel {
    const char* name;
    void (*call)(void**);
    const char* (*parameters)();  // such as "p8 i8 f4 ": pointer, integer, float, with their bytes
};

template <auto function, class... A, size_t... I>
void call_with(void (*)(A...), void** args, std::index_sequence<I...>) {
    function(*static_cast<A*>(args[I])...);
}

template <auto function, class... A>
Kernel describe(const char* name, void (*)(A...)) {
    return {name,
            [](void** args) { call_with<function>(function, args, std::index_sequence_for<A...>()); },
            [] {
                static char text[4 * MOST];
                char* end = text;
                ((end += sprintf(end, "%c%zu ",
                                 std::is_pointer_v<A> ? 'p' : std::is_integral_v<A> ? 'i' : 'f',
                                 sizeof(A))),
                 ...);
                return static_cast<const char*>(text);
            }};
}
#define HOST_KERNEL(name) host::describe<&name>(#name, &name)

// An array gets memory of its own, to the byte, at an address as aligned as it was in NumPy.
inline int serve(const Kernel* kernels) {
    static char name[256], given[16], kinds[4 * MOST];
    int backward, count, before;
    long first;  // byte of an array to which a pointer points
    if (scanf("%255s %u %u %u %u %u %u %d %d", name, &gridDim.x, &gridDim.y, &gridDim.z,
              &blockDim.x, &blockDim.y, &blockDim.z, &backward, &count) != 9 || count > MOST)
        return 2;
    while (strcmp(kernels->name, name)) ++kernels;
    static void *memory[MOST], *pointers[MOST];
    static size_t sizes[MOST];
    for (int i = 0; i < count; ++i) {
        if (scanf("%15s %zu %d %ld%*c", given, &sizes[i], &before, &first) != 4) return 2;
        char* start = static_cast<char*>(malloc(before + (sizes[i] ? sizes[i] : 16)));
        memory[i] = start + (sizes[i] ? before : 16);
        if (fread(memory[i], 1, sizes[i], stdin) != sizes[i]) return 2;
        const bool array = given[0] == 'p', null = given[0] == 'n';
        pointers[i] = null ? nullptr : static_cast<char*>(memory[i]) + first;
        args[i] = array || null ? &pointers[i] : memory[i];
        strcat(strcat(kinds, null ? "p8" : given), " ");
        sizes[i] *= array;
    }
    if (strcmp(kinds, kernels->parameters())) {
        fprintf(stderr, "the kernel takes %sand was given %s\n", kernels->parameters(), kinds);
        return 3;
    }
    kernel = kernels->call;
    run_grid(backward);
    for (int i = 0; i < count; ++i)
        if (sizes[i]) fwrite(memory[i], 1, sizes[i], stdout);
    return 0;
}

}  // namespace host

// ---- what kernels call ---------------------------------------------------------------------

inline void __syncthreads() { host::meet(host::all, [] { return host::alive; }); }
inline void __syncwarp(unsigned mask = ~0u) { host::meet_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    const unsigned mine = host::self->lane;
    return host::exchange(mask, value, (mine & ~(width - 1)) | (lane & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
    return host::exchange(mask, value, host::self->lane ^ bits);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const unsigned mine = host::self->lane, in = mine & (width - 1);
    return host::exchange(mask, value, in + by < unsigned(width) ? mine + by : mine);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const unsigned mine = host::self->lane, in = mine & (width - 1);
    return host::exchange(mask, value, in >= by ? mine - by : mine);
}

template <class T, class V>
T atomicExch(T* p, V v) { return std::exchange(*p, T(v)); }
template <class T, class V>
T atomicAdd(T* p, V v) { return std::exchange(*p, T(*p + v)); }
inline unsigned atomicInc(unsigned* p, unsigned limit) {
    return std::exchange(*p, *p >= limit ? 0 : *p + 1);
}

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
template <class T>
T __ldg(const T* p) { return *p; }

template <class To, class From>
To host_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof(To));
    return to;
}
inline float __int_as_float(int x) { return host_bits<float>(x); }
inline int __float_as_int(float x) { return host_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return host_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return host_bits<unsigned>(x); }

template <class A, class B>
auto min(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) return fmin(T(a), T(b));
    else return T(a) < T(b) ? T(a) : T(b);
}
template <class A, class B>
auto max(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) return fmax(T(a), T(b));
    else return T(a) > T(b) ? T(a) : T(b);
}

#define HOST_FUNCTION(name, expression)                    \
    inline double name(double x) { return expression; }    \
    inline float name(float x) { return name(double(x)); } \
    inline float name##f(float x) { return name(double(x)); }
HOST_FUNCTION(rsqrt, 1 / sqrt(x))
HOST_FUNCTION(cospi, cos(M_PI * fmod(x, 2)))
HOST_FUNCTION(sinpi, sin(M_PI * fmod(x, 2)))
HOST_FUNCTION(normcdf, erfc(-x * M_SQRT1_2) / 2)
inline void sincospi(double x, double* s, double* c) { *s = sinpi(x), *c = cospi(x); }
inline void sincospi(float x, float* s, float* c) { *s = sinpi(x), *c = cospi(x); }
inline void sincospif(float x, float* s, float* c) { sincospi(x, s, c); }
#define __expf expf
#define __logf logf
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return x > 0 ? x < 1 ? x : 1 : 0; }

#define HOST_VECTOR(T, name)                                   \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };         \
    struct alignas(16) name##4 { T x, y, z, w; };              \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
HOST_VECTOR(float, float)
HOST_VECTOR(double, double)
HOST_VECTOR(int, int)
HOST_VECTOR(unsigned, uint)

// Runs CUDA C++ on the CPU, one fiber a thread, so that kernels are tested without a GPU.
//
// The threads of a block take turns; each runs until it waits or ends. What CUDA leaves undefined
// shows: shared memory, and what a shuffle reads from a lane that takes no part, starts as bytes
// 0xff (NaN); a barrier that not all threads reach is an error; and the turns can be taken in
// reverse, which changes the result where a barrier is missing. Not here: dynamic shared memory,
// votes, cooperative groups, and threads that spin until another one acts.
//
// Names avoid lone capitals, which the -D options of a kernel might replace.
#pragma once
#include <math.h>
#include <string.h>
#include <type_traits>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// One section holds all shared memory, where it can be found and filled; `used`, lest the compiler
// take memory that it sees nobody write for zero.
#define __shared__ static __attribute__((section("cuda_shared"), used))
extern char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));

struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

namespace cuda_on_cpu {

enum class State { ended, ready, block_barrier, warp_barrier };
struct Fiber { ucontext_t context; State state; unsigned place; char shown[8]; };
static Fiber fibers[1024];
static char stacks[1024][64 << 10];
static ucontext_t scheduler;
static unsigned self, count;
static void** arguments;

static dim3 at(unsigned number, dim3 shape)
{
    return {number % shape.x, number / shape.x % shape.y, number / (shape.x * shape.y)};
}

// `place` tells barriers apart: the line of a block barrier, the mask of a warp barrier.
static void wait(State state, unsigned place)
{
    fibers[self].state = state;
    fibers[self].place = place;
    swapcontext(&fibers[self].context, &scheduler);
}

// A block barrier needs all threads; a warp barrier those in its mask that have not ended.
static bool release(State state, unsigned place, unsigned first, unsigned stop)
{
    for (int pass = 0; pass < 2; ++pass)
        for (unsigned thread = first; thread < stop; ++thread) {
            Fiber& fiber = fibers[thread];
            const bool arrived = fiber.state == state && fiber.place == place;
            const bool named = place >> thread % 32 & 1 && fiber.state != State::ended;
            if (pass == 1 && arrived)
                fiber.state = State::ready;
            else if (pass == 0 && arrived != (state == State::block_barrier || named))
                return false;
        }
    return true;
}

// A warp runs as far as it can before the next one starts. Return whether it got anywhere.
static bool run_warp(unsigned first, unsigned stop, bool reversed)
{
    bool ran = false;
    for (unsigned turn = first; turn < stop; ++turn) {
        self = reversed ? first + stop - 1 - turn : turn;
        threadIdx = at(self, blockDim);
        if (fibers[self].state == State::ready) {
            ran = true;
            swapcontext(&scheduler, &fibers[self].context);
        }
    }
    for (unsigned thread = first; thread < stop; ++thread)
        if (fibers[thread].state == State::warp_barrier)
            release(State::warp_barrier, fibers[thread].place, first, stop);
    return ran;
}

// Return whether all threads have ended.
static bool run_block(void (*enter)(), bool reversed)
{
    if (__start_cuda_shared)
        memset(__start_cuda_shared, 0xff, __stop_cuda_shared - __start_cuda_shared);
    for (unsigned thread = 0; thread < count; ++thread) {
        ucontext_t& context = fibers[thread].context;
        getcontext(&context);
        context.uc_stack.ss_sp = stacks[thread];
        context.uc_stack.ss_size = sizeof stacks[thread];
        context.uc_link = &scheduler;
        makecontext(&context, enter, 0);
        fibers[thread].state = State::ready;
    }
    do {
        const unsigned warps = (count + 31) / 32;
        for (unsigned turn = 0; turn < warps; ++turn) {
            const unsigned first = 32 * (reversed ? warps - 1 - turn : turn);
            while (run_warp(first, first + 32 < count ? first + 32 : count, reversed)) {}
        }
    } while (release(State::block_barrier, fibers[0].place, 0, count));
    bool ended = true;
    for (unsigned thread = 0; thread < count; ++thread)
        ended &= fibers[thread].state == State::ended;
    return ended;
}

template <class... Parameter_, size_t... index>
static void call(void (*kernel)(Parameter_...), std::index_sequence<index...>)
{
    kernel(*static_cast<Parameter_*>(arguments[index])...);
}

template <class... Parameter_> static void call(void (*kernel)(Parameter_...))
{
    call(kernel, std::index_sequence_for<Parameter_...>());
    fibers[self].state = State::ended;
}

template <auto kernel_> static bool launch(const unsigned* shape, bool reversed, void** values)
{
    gridDim = {shape[0], shape[1], shape[2]};
    blockDim = {shape[3], shape[4], shape[5]};
    count = blockDim.x * blockDim.y * blockDim.z;
    arguments = values;
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    bool ended = true;
    for (unsigned turn = 0; turn < blocks && ended; ++turn) {
        blockIdx = at(reversed ? blocks - 1 - turn : turn, gridDim);
        ended = run_block([] { call(kernel_); }, reversed);
    }
    return ended;
}

// Write a parameter's type as NumPy does, "f8" or "i4", with a star before a pointer's.
template <class Type_> static char* code(char* text)
{
    using Item_ = std::remove_pointer_t<Type_>;
    if (std::is_pointer_v<Type_>)
        *text++ = '*';
    *text++ = std::is_floating_point_v<Item_> ? 'f' : std::is_unsigned_v<Item_> ? 'u' : 'i';
    *text++ = '0' + sizeof(Item_);
    *text++ = ' ';
    return text;
}

template <class... Parameter_> static const char* codes(void (*)(Parameter_...))
{
    static char text[4 * sizeof...(Parameter_) + 1];
    char* end = text;
    ((end = code<Parameter_>(end)), ...);
    return text;
}

}  // namespace cuda_on_cpu

#define __syncthreads() cuda_on_cpu::wait(cuda_on_cpu::State::block_barrier, __LINE__)
static inline void __syncwarp(unsigned mask = ~0u)
{
    cuda_on_cpu::wait(cuda_on_cpu::State::warp_barrier, mask);
}

// A lane that would read beyond the `end` of its segment of the warp reads itself.
#define SHUFFLE_(name, source) \
    template <class Value_> \
    static Value_ name(unsigned mask, Value_ value, int by, int width = 32) \
    { \
        using namespace cuda_on_cpu; \
        static_assert(sizeof value <= sizeof(Fiber::shown)); \
        const int lane = self % 32, begin = lane & -width, end = begin + width; \
        const int from = (source) < end ? (source) : lane; \
        const unsigned thread = self - lane + from; \
        memcpy(&fibers[self].shown, &value, sizeof value); \
        __syncwarp(mask); \
        memset(&value, 0xff, sizeof value); \
        if (mask >> from & 1 && thread < count && fibers[thread].state != State::ended) \
            memcpy(&value, &fibers[thread].shown, sizeof value); \
        __syncwarp(mask); \
        return value; \
    }
SHUFFLE_(__shfl_sync, begin + (by & (width - 1)))
SHUFFLE_(__shfl_up_sync, lane - by < begin ? lane : lane - by)
SHUFFLE_(__shfl_down_sync, lane + by)
SHUFFLE_(__shfl_xor_sync, lane ^ by)

template <class Value_, class Addend_> static Value_ atomicAdd(Value_* address, Addend_ addend)
{
    const Value_ old = *address;
    *address += addend;
    return old;
}

template <class Value_> static Value_ min(Value_ a, Value_ b) { return b < a ? b : a; }

#define ROUNDED_(prefix, fma_name, type) \
    static inline type prefix##add_rn(type a, type b) { return a + b; } \
    static inline type prefix##sub_rn(type a, type b) { return a - b; } \
    static inline type prefix##mul_rn(type a, type b) { return a * b; } \
    static inline type prefix##div_rn(type a, type b) { return a / b; } \
    static inline type prefix##sqrt_rn(type a) { return __builtin_sqrt(a); } \
    static inline type fma_name(type a, type b, type c) { return __builtin_fma(a, b, c); }
ROUNDED_(__d, __fma_rn, double)
ROUNDED_(__f, __fmaf_rn, float)

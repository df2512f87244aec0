// One block of CUDA threads as fibers of one CPU thread; see cpu_execution.h.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    unsigned size() const { return x * y * z; }
    dim3 at(unsigned i) const { return {i % x, i / x % y, i / (x * y)}; }
};

namespace cpu_execution {

constexpr unsigned kWarp = 32;
constexpr unsigned kMostThreads = 1024;
constexpr std::size_t kMostShared = 48 * 1024;
constexpr std::size_t kMostParameters = 4096;
constexpr std::size_t kStack = 256 * 1024;

enum class State { kReady, kAtBarrier, kInWarp, kEnded };

struct Thread {
    ucontext_t context;
    unsigned index;  // in the block
    State state;
    int line;            // where it waits
    std::uint32_t mask;  // of the warp function
    std::uint64_t given, taken[kWarp];
    void* stack;
    void* fake_stack;

    unsigned lane() const { return index % kWarp; }
};

// What all kernels of the process share: the seed, the message of the last failed launch, stacks.
struct Machine {
    std::mt19937 random{1};
    std::string message;
    std::vector<void*> stacks;

    void* stack(std::size_t i) {
        while (stacks.size() <= i) {
            void* memory = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (memory == MAP_FAILED) throw std::runtime_error("no memory for fibers");
            stacks.push_back(memory);
        }
        return stacks[i];
    }
    template <typename T>
    void shuffle(std::vector<T>& items) {
        std::shuffle(items.begin(), items.end(), random);
    }
};

inline Machine& machine() {
    static Machine instance;
    return instance;
}

class Block;
inline Block* running = nullptr;

class Block {
public:
    dim3 grid, block, index;
    Thread* current = nullptr;

    template <typename Body>
    void run(Body const& body) {
        body_ = [](void const* call) { (*static_cast<Body const*>(call))(); };
        call_ = &body;
        shared_.reset();
        shared_size_ = 0;
        threads_.resize(block.size());
        for (unsigned i = 0; i < threads_.size(); ++i) begin(threads_[i], i);
        running = this;
        while (turn()) {
        }
        running = nullptr;
    }

    // Called by a fiber: waits until the scheduler lets it go on.
    void wait(State state, int line) {
        Thread& self = *current;
        self.state = state;
        self.line = line;
        leave(self, &self.fake_stack);
    }

    void* shared_memory(std::size_t size) {
        if (!shared_) {
            if (size > kMostShared) fail("a block asks for more than 48 KiB of shared memory");
            shared_.reset(static_cast<unsigned char*>(std::malloc(size)));
            shared_size_ = size;
            for (std::size_t i = 0; i < size; ++i) {
                shared_.get()[i] = static_cast<unsigned char>(machine().random() | 0xc0);
            }
        }
        if (size != shared_size_) fail("a kernel has two LANE_SHARED; expected one");
        return shared_.get();
    }

    // The values that the lanes of the mask gave, by lane.
    std::uint64_t const* exchange(std::uint32_t mask, std::uint64_t value, int line) {
        Thread& self = *current;
        if (!(mask >> self.lane() & 1)) fail("a warp function whose mask lacks its own lane", line);
        self.mask = mask;
        self.given = value;
        wait(State::kInWarp, line);
        return self.taken;
    }

    [[noreturn]] void fail(std::string const& what, int line = 0) const {
        // Not thrown: a fiber has no frame above it that could catch. The scheduler throws.
        failure_ = what + (line ? " (line " + std::to_string(line) + ")" : "");
        for (;;) {
            current->state = State::kEnded;
            const_cast<Block*>(this)->leave(*current, &current->fake_stack);
        }
    }

private:
    static void entry() {
        Block& self = *running;
        self.arrived(nullptr);
        self.body_(self.call_);
        self.current->state = State::kEnded;
        self.leave(*self.current, nullptr);
    }

    void begin(Thread& thread, unsigned i) {
        thread = Thread{};
        thread.index = i;
        thread.stack = machine().stack(i);
#ifdef __SANITIZE_ADDRESS__
        ASAN_UNPOISON_MEMORY_REGION(thread.stack, kStack);  // of the fiber that had it before
#endif
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack;
        thread.context.uc_stack.ss_size = kStack;
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, entry, 0);
    }

    // Lets every thread that is ready run, in random order, then releases those that may go on.
    bool turn() {
        std::vector<Thread*> ready;
        for (Thread& thread : threads_) {
            if (thread.state == State::kReady) ready.push_back(&thread);
        }
        machine().shuffle(ready);
        for (Thread* thread : ready) enter(*thread);
        bool alive = false;
        for (Thread& thread : threads_) alive = alive || thread.state != State::kEnded;
        if (!alive) return false;
        if (!release_warps()) release_barrier();
        return true;
    }

    bool release_warps() {
        std::vector<Thread*> complete;  // one thread of each group that may go on
        for (Thread& thread : threads_) {
            if (thread.state == State::kInWarp && leads_complete_group(thread)) {
                complete.push_back(&thread);
            }
        }
        machine().shuffle(complete);
        // Some of them now, the others later: warps drift apart on a GPU, too.
        std::size_t const count = complete.empty() ? 0 : 1 + machine().random() % complete.size();
        for (std::size_t i = 0; i < count; ++i) {
            std::vector<Thread*> const lanes = group(*complete[i]);
            for (Thread* to : lanes) {
                for (Thread* from : lanes) to->taken[from->lane()] = from->given;
            }
            for (Thread* lane : lanes) lane->state = State::kReady;
        }
        return count > 0;
    }

    std::vector<Thread*> group(Thread const& thread) {
        std::vector<Thread*> lanes;
        unsigned const first = thread.index - thread.lane();
        for (unsigned lane = 0; lane < kWarp && first + lane < threads_.size(); ++lane) {
            if (thread.mask >> lane & 1) lanes.push_back(&threads_[first + lane]);
        }
        return lanes;
    }

    bool leads_complete_group(Thread const& thread) {
        std::vector<Thread*> const lanes = group(thread);
        bool same = lanes.front() == &thread;
        for (Thread* lane : lanes) {
            if (lane->state == State::kEnded) {
                throw std::runtime_error("a warp function waits for a lane that has ended (line " +
                                         std::to_string(thread.line) + ")");
            }
            same = same && lane->state == State::kInWarp && lane->mask == thread.mask &&
                   lane->line == thread.line;
        }
        return same;
    }

    void release_barrier() {
        for (Thread& thread : threads_) {
            if (thread.state != State::kAtBarrier || thread.line != threads_.front().line) {
                throw std::runtime_error("a barrier or warp function that not all threads reach: " +
                                         where());
            }
        }
        for (Thread& thread : threads_) thread.state = State::kReady;
    }

    std::string where() const {
        std::string text;
        for (Thread const& thread : threads_) {
            bool const ended = thread.state == State::kEnded;
            std::string const place = ended ? "ended" : "line " + std::to_string(thread.line);
            if (text.find(place) != std::string::npos) continue;
            text += (text.empty() ? "" : ", ") + std::string("thread ") +
                    std::to_string(thread.index) + " " + place;
        }
        return text;
    }

    void enter(Thread& thread) {
        current = &thread;
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_start_switch_fiber(&fake_stack_, thread.stack, kStack);
#endif
        swapcontext(&scheduler_, &thread.context);
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
        current = nullptr;
        if (!failure_.empty()) throw std::runtime_error(failure_);
    }

    void leave(Thread& thread, void** fake_stack) {
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_start_switch_fiber(fake_stack, scheduler_stack_, scheduler_size_);
#endif
        swapcontext(&thread.context, &scheduler_);
        arrived(fake_stack ? *fake_stack : nullptr);
    }

    void arrived([[maybe_unused]] void* fake_stack) {
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack_, &scheduler_size_);
#endif
    }

    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };

    std::vector<Thread> threads_;
    ucontext_t scheduler_{};
    void* fake_stack_ = nullptr;
    void const* scheduler_stack_ = nullptr;
    std::size_t scheduler_size_ = 0;
    void (*body_)(void const*) = nullptr;
    void const* call_ = nullptr;
    std::unique_ptr<unsigned char, Free> shared_;
    std::size_t shared_size_ = 0;
    mutable std::string failure_;
};

}  // namespace cpu_execution

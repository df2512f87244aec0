// The CUDA driver's calls that trt_lane makes, on host memory: records each, and what breaks the
// contract of trt_lane/backends/cuda_driver.py. A stream does its work only when somebody waits for
// it, so that reading too early finds what was there before; a graph does it again.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum { kOk = 0, kInvalid = 1, kNoMemory = 2, kNoContext = 201, kCaptureError = 900 };
using Callback = void (*)();

struct Work {
    std::string what;
    char* to = nullptr;
    char const* from = nullptr;
    std::size_t size = 0;
    Callback call = nullptr;
    void* event = nullptr;
};

struct Stream {
    std::vector<Work> queue, captured;
    bool capturing = false;
};

struct Event {
    bool recorded = false, done = false;
};

struct State {
    std::vector<std::string> log, violations;
    std::map<char*, std::size_t> device, host;  // device memory is host memory that only we touch
    std::set<Stream*> streams;
    std::map<void*, std::vector<Work>*> graphs, executables;
    std::set<Event*> events;
    std::map<std::string, int> calls, failing;  // the n-th call of a name fails
    int failure_code = kInvalid;
    int retained = 0, depth = 0;
    int capability = 87, integrated = 0, broken = 0;
};
State state;
int primary;

void violate(std::string const& text) { state.violations.push_back(text); }

// Counts and logs a call; not kOk when it was told to fail, or when there is no context.
int enter(char const* name, bool wants_context = true, bool in_capture = false) {
    state.log.push_back(name);
    int number = ++state.calls[name];
    if (wants_context && state.depth == 0) {
        violate(std::string(name) + " without a current context");
        return kNoContext;
    }
    if (!in_capture) {
        for (Stream* stream : state.streams) {
            if (stream->capturing) {
                violate(std::string(name) + " while a stream is being captured");
                return kCaptureError;
            }
        }
    }
    if (state.broken && wants_context) return state.broken;
    auto found = state.failing.find(name);
    if (found != state.failing.end() && found->second == number) return state.failure_code;
    return kOk;
}

bool inside(std::map<char*, std::size_t> const& memory, char const* at, std::size_t size) {
    auto next = memory.upper_bound(const_cast<char*>(at));
    if (next == memory.begin()) return false;
    --next;
    return at >= next->first && at + size <= next->first + next->second;
}

bool pending() {
    for (Stream* stream : state.streams) {
        if (!stream->queue.empty()) return true;
    }
    return false;
}

void perform(Work const& work) {
    if (work.what == "record") {
        auto* event = static_cast<Event*>(work.event);
        if (state.events.count(event) == 0) return violate("a stream records a destroyed event");
        event->done = true;
    } else if (work.call != nullptr) {
        work.call();
    } else {
        bool up = work.what == "upload";
        auto const& target = up ? state.device : state.host;
        auto const& source = up ? state.host : state.device;
        if (!inside(target, work.to, work.size) || !inside(source, work.from, work.size)) {
            return violate("a stream does an " + work.what + " with memory that is gone");
        }
        std::memcpy(work.to, work.from, work.size);
    }
}

int enqueue(void* handle, Work const& work) {
    auto* stream = static_cast<Stream*>(handle);
    if (state.streams.count(stream) == 0) {
        violate(work.what + " on a stream that is gone");
        return kInvalid;
    }
    (stream->capturing ? stream->captured : stream->queue).push_back(work);
    return kOk;
}

char* allocate(std::map<char*, std::size_t>& memory, std::size_t size) {
    char* address = static_cast<char*>(std::malloc(size + 64));
    std::memset(address, 0xCB, size);
    memory[address] = size;
    return address;
}

int give_back(std::map<char*, std::size_t>& memory, char* address, char const* name) {
    if (pending()) violate(std::string(name) + " of memory that a stream may still use");
    if (memory.erase(address) == 0) {
        violate(std::string(name) + " of what is no memory (any more)");
        return kInvalid;
    }
    std::free(address);
    return kOk;
}

}  // namespace

// ---- the driver -----------------------------------------------------------------------------

API int cuInit(unsigned) { return enter("cuInit", false); }
API int cuDriverGetVersion(int* version) {
    *version = 12060;
    return enter("cuDriverGetVersion", false);
}
API int cuDeviceGet(int* device, int number) {
    *device = number;
    int status = enter("cuDeviceGet", false);
    return status ? status : (number == 0 ? kOk : 101);
}
API int cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 18: *value = state.integrated; break;
        case 19: *value = 1; break;
        case 75: *value = state.capability / 10; break;
        case 76: *value = state.capability % 10; break;
        default: violate("an attribute that nobody knows"); return kInvalid;
    }
    return enter("cuDeviceGetAttribute", false);
}
API int cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &primary;
    int status = enter("cuDevicePrimaryCtxRetain", false);
    if (status == kOk) ++state.retained;
    return status;
}
API int cuDevicePrimaryCtxRelease_v2(int) {
    int status = enter("cuDevicePrimaryCtxRelease_v2", false);
    if (state.retained-- <= 0) violate("the context is released more often than it was retained");
    return status;
}
API int cuCtxPushCurrent_v2(void* context) {
    int status = enter("cuCtxPushCurrent_v2", false);
    if (context != &primary || state.retained <= 0) {
        violate("a context is made current that is not held");
        return kInvalid;
    }
    if (status == kOk) ++state.depth;
    return status;
}
API int cuCtxPopCurrent_v2(void** context) {
    *context = &primary;
    if (state.depth-- <= 0) violate("no context to pop");
    return enter("cuCtxPopCurrent_v2", false, true);
}
API int cuMemGetInfo_v2(std::size_t* free_bytes, std::size_t* total) {
    *free_bytes = *total = 1u << 30;
    return enter("cuMemGetInfo_v2");
}
API int cuMemAlloc_v2(std::uint64_t* address, std::size_t size) {
    int status = enter("cuMemAlloc_v2");
    if (status == kOk && size == 0) violate("0 bytes of device memory");
    if (status == kOk) *address = reinterpret_cast<std::uint64_t>(allocate(state.device, size));
    return status;
}
API int cuMemFree_v2(std::uint64_t address) {
    int status = enter("cuMemFree_v2");
    return status ? status : give_back(state.device, reinterpret_cast<char*>(address), "cuMemFree");
}
API int cuMemHostAlloc(void** address, std::size_t size, unsigned) {
    int status = enter("cuMemHostAlloc");
    if (status == kOk) *address = allocate(state.host, size);
    return status;
}
API int cuMemHostGetDevicePointer_v2(std::uint64_t* device, void* host, unsigned) {
    int status = enter("cuMemHostGetDevicePointer_v2");
    if (!state.integrated) violate("host memory is mapped where there are two memories");
    *device = reinterpret_cast<std::uint64_t>(host);
    return status;
}
API int cuMemFreeHost(void* address) {
    int status = enter("cuMemFreeHost");
    return status ? status : give_back(state.host, static_cast<char*>(address), "cuMemFreeHost");
}
API int cuMemcpyHtoDAsync_v2(std::uint64_t to, void const* from, std::size_t size, void* stream) {
    int status = enter("cuMemcpyHtoDAsync_v2", true, true);
    if (state.integrated) violate("a copy where GPU and CPU share their memory");
    if (status) return status;
    Work work{"upload", reinterpret_cast<char*>(to), static_cast<char const*>(from), size};
    return enqueue(stream, work);
}
API int cuMemcpyDtoHAsync_v2(void* to, std::uint64_t from, std::size_t size, void* stream) {
    int status = enter("cuMemcpyDtoHAsync_v2", true, true);
    if (state.integrated) violate("a copy where GPU and CPU share their memory");
    if (status) return status;
    Work work{"download", static_cast<char*>(to), reinterpret_cast<char const*>(from), size};
    return enqueue(stream, work);
}
API int cuStreamCreate(void** stream, unsigned flags) {
    int status = enter("cuStreamCreate");
    if (flags != 1) violate("a stream that waits for the default stream cannot be captured");
    if (status == kOk) state.streams.insert(static_cast<Stream*>(*stream = new Stream));
    return status;
}
API int cuStreamSynchronize(void* handle) {
    int status = enter("cuStreamSynchronize");
    if (status) return status;
    auto* stream = static_cast<Stream*>(handle);
    if (state.streams.count(stream) == 0)
        return violate("a wait for a stream that is gone"), kInvalid;
    for (Work const& work : stream->queue) perform(work);
    stream->queue.clear();
    return kOk;
}
API int cuStreamDestroy_v2(void* handle) {
    int status = enter("cuStreamDestroy_v2");
    if (status) return status;
    auto* stream = static_cast<Stream*>(handle);
    if (state.streams.erase(stream) == 0) return violate("a stream is destroyed twice"), kInvalid;
    if (!stream->queue.empty()) violate("a stream is destroyed that has work to do");
    delete stream;
    return kOk;
}
API int cuStreamBeginCapture_v2(void* handle, int mode) {
    int status = enter("cuStreamBeginCapture_v2");
    if (status) return status;
    auto* stream = static_cast<Stream*>(handle);
    if (state.streams.count(stream) == 0) return violate("a capture of no stream"), kInvalid;
    if (mode != 1) violate("a capture that hinders other threads");
    stream->capturing = true;
    stream->captured.clear();
    return kOk;
}
API int cuStreamEndCapture(void* handle, void** graph) {
    int status = enter("cuStreamEndCapture", true, true);
    auto* stream = static_cast<Stream*>(handle);
    *graph = nullptr;
    if (!stream->capturing) return violate("the end of no capture"), kInvalid;
    stream->capturing = false;
    if (status) return status;
    auto* work = new std::vector<Work>(stream->captured);
    state.graphs[*graph = work] = work;
    return kOk;
}
API int cuGraphInstantiateWithFlags(void** executable, void* graph, std::uint64_t) {
    int status = enter("cuGraphInstantiateWithFlags");
    if (status) return status;
    if (state.graphs.count(graph) == 0)
        return violate("a graph that is gone is made ready"), kInvalid;
    auto* work = new std::vector<Work>(*state.graphs[graph]);
    state.executables[*executable = work] = work;
    return kOk;
}
API int cuGraphLaunch(void* executable, void* stream) {
    int status = enter("cuGraphLaunch");
    if (status) return status;
    auto found = state.executables.find(executable);
    if (found == state.executables.end()) return violate("a launch of no graph"), kInvalid;
    for (Work const& work : *found->second) {
        if (int code = enqueue(stream, work)) return code;
    }
    return kOk;
}
API int cuGraphExecDestroy(void* executable) {
    int status = enter("cuGraphExecDestroy");
    if (status) return status;
    auto found = state.executables.find(executable);
    if (found == state.executables.end()) return violate("a graph is destroyed twice"), kInvalid;
    if (pending()) violate("a graph is destroyed that a stream may still run");
    delete found->second;
    state.executables.erase(found);
    return kOk;
}
API int cuGraphDestroy(void* graph) {
    int status = enter("cuGraphDestroy");
    if (status) return status;
    auto found = state.graphs.find(graph);
    if (found == state.graphs.end())
        return violate("a captured graph is destroyed twice"), kInvalid;
    delete found->second;
    state.graphs.erase(found);
    return kOk;
}
API int cuEventCreate(void** event, unsigned) {
    int status = enter("cuEventCreate");
    if (status == kOk) state.events.insert(static_cast<Event*>(*event = new Event));
    return status;
}
API int cuEventRecord(void* event, void* stream) {
    int status = enter("cuEventRecord", true, true);
    if (status) return status;
    if (state.events.count(static_cast<Event*>(event)) == 0)
        violate("a destroyed event is recorded");
    Work work{"record"};
    work.event = event;
    return enqueue(stream, work);
}
API int cuEventElapsedTime(float* ms, void* start, void* end) {
    int status = enter("cuEventElapsedTime");
    *ms = 1.5f;
    if (status) return status;
    for (void* event : {start, end}) {
        auto* one = static_cast<Event*>(event);
        if (state.events.count(one) == 0 || !one->done)
            return violate("a time of no event"), kInvalid;
    }
    return kOk;
}
API int cuEventDestroy_v2(void* event) {
    int status = enter("cuEventDestroy_v2");
    if (status) return status;
    if (state.events.erase(static_cast<Event*>(event)) == 0) {
        return violate("an event is destroyed twice"), kInvalid;
    }
    delete static_cast<Event*>(event);
    return kOk;
}
API int cuGetErrorName(int code, char const** name) {
    *name = code == kNoMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_MADE_UP";
    return kOk;
}

// ---- for the tests --------------------------------------------------------------------------

API void recording_reset(int capability, int integrated) {
    state = State();
    state.capability = capability;
    state.integrated = integrated;
}
API void recording_fail(char const* name, int number, int code) {
    state.failing[name] = state.calls[name] + number;
    state.failure_code = code;
}
// From now on every call inside the context fails, as after a fault of the device.
API void recording_break(int code) { state.broken = code; }
// Somebody else's work on a stream: an engine's, a kernel's. 0 when the stream takes it.
API int recording_enqueue(void* stream, char const* what, Callback call) {
    state.log.push_back(what);
    if (state.depth == 0) violate(std::string(what) + " without a current context");
    if (state.broken) return state.broken;
    auto found = state.failing.find(what);
    if (found != state.failing.end() && found->second == ++state.calls[what]) return kInvalid;
    Work work{what};
    work.call = call;
    return enqueue(stream, work);
}
API void recording_note(char const* what) {
    state.log.push_back(what);
    if (state.depth == 0) violate(std::string(what) + " without a current context");
    if (pending()) violate(std::string(what) + " while a stream has work to do");
}
API int recording_has(int on_device, std::uint64_t address, std::size_t size) {
    auto const* at = reinterpret_cast<char const*>(address);
    bool in_host = (!on_device || state.integrated) && inside(state.host, at, size);
    return in_host || (on_device && inside(state.device, at, size));
}
namespace {
std::string text;
char const* joined(std::vector<std::string> const& lines) {
    text.clear();
    for (auto const& line : lines) text += line + "\n";
    return text.c_str();
}
}  // namespace
API char const* recording_log() { return joined(state.log); }
API char const* recording_violations() { return joined(state.violations); }
API char const* recording_live() {
    std::vector<std::string> live;
    auto add = [&](char const* name, std::size_t count) {
        if (count) live.push_back(std::string(name) + " " + std::to_string(count));
    };
    add("contexts", static_cast<std::size_t>(state.retained));
    add("current", static_cast<std::size_t>(state.depth));
    add("streams", state.streams.size());
    add("events", state.events.size());
    add("graphs", state.graphs.size() + state.executables.size());
    add("device memory", state.device.size());
    add("host memory", state.host.size());
    return joined(live);
}

/* Streams, events and graphs.
 *
 * At once (the default), work is done when it is put on a stream. Late, it is done as late as can be:
 * when somebody waits for it, with what it was told to wait for and nothing else. Work that should
 * have waited for another stream, and was not told to, then finds that the other has done nothing
 * yet; and a buffer of the host that is used again too early shows its new content to the copy.
 * Late copies, and late kernels, leave one kind of work late and do the other at once, so that
 * either may overtake the other wherever nothing forbids it. */
#define _GNU_SOURCE
#include "fake.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct Event {
    struct Stream *stream; /* where it was recorded last; NULL: never */
    long ticket;
    double ms;
} Event;

typedef enum { COPY, FILL8, FILL32, LAUNCH, CALL, RECORD, WAIT } Kind;

typedef struct Work {
    Kind kind;
    long ticket;
    void *to;
    const void *from;
    size_t bytes;
    unsigned value;
    FakeLaunch launch;
    unsigned grid[3], block[3];
    void (*call)(void *);
    Event *event;
    struct Stream *other; /* WAIT: up to `until` of this stream */
    long until;
    struct Work *next;
} Work;

typedef struct Graph {
    Work *first, **end;
} Graph;

typedef struct Stream {
    int device;
    long ticket; /* of the work that was put on it last */
    long done; /* of the work that was done last */
    Work *first, **end;
    Graph *graph; /* being captured */
    int is_spoiled;
    struct Stream *next;
} Stream;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Stream *streams;
static Stream default_streams[DEVICES_MAX];

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
}

static Stream *default_of(int device) {
    Stream *stream = &default_streams[device];
    stream->device = device;
    if (!stream->end)
        stream->end = &stream->first;
    return stream;
}

static Stream *stream_of(Stream *stream) {
    return stream ? stream : default_of(fake_current());
}

static Status drain(Stream *stream, long until);

/* When it is done late, its memory may be gone. */
static void move_bytes(void *what) {
    const Work *work = what;
    if (work->kind == COPY)
        memmove(work->to, work->from, work->bytes);
    else if (work->kind == FILL8)
        memset(work->to, (int)work->value, work->bytes);
    else
        for (size_t i = 0; i < work->bytes / 4; i++)
            ((unsigned *)work->to)[i] = work->value;
}

static Status perform(Work *work) {
    switch (work->kind) {
    case COPY:
    case FILL8:
    case FILL32: return fake_guarded(move_bytes, work);
    case LAUNCH: return fake_run_kernel(work->launch, work->grid, work->block, work->from);
    case CALL: work->call(work->to); return SUCCESS;
    case RECORD: work->event->ms = now_ms(); return SUCCESS;
    case WAIT: return drain(work->other, work->until);
    }
    return INVALID_VALUE;
}

static void discard(Work *work) {
    if (work->kind == LAUNCH)
        free((void *)work->from);
    free(work);
}

/* Do the work of a stream up to a ticket. One thread at a time uses a device's streams. */
static Status drain(Stream *stream, long until) {
    Status status = SUCCESS;
    while (!status && stream->first && stream->first->ticket <= until) {
        Work *work = stream->first;
        stream->first = work->next;
        if (!stream->first)
            stream->end = &stream->first;
        if (!fake_broken(stream->device))
            status = fake_break(stream->device, perform(work));
        stream->done = work->ticket;
        discard(work);
    }
    return status;
}

Status fake_drain_default(int device) {
    return drain(default_of(device), default_of(device)->ticket);
}

Status fake_drain_device(int device) {
    Status status = fake_drain_default(device);
    for (Stream *stream = streams; stream && !status; stream = stream->next)
        if (stream->device == device)
            status = drain(stream, stream->ticket);
    return status;
}

static void forget(Stream *stream) {
    while (stream->first) {
        Work *work = stream->first;
        stream->first = work->next;
        discard(work);
    }
    stream->end = &stream->first;
    stream->done = stream->ticket;
    stream->graph = NULL;
}

void fake_forget_work(int device) {
    forget(default_of(device));
    for (Stream *stream = streams; stream; stream = stream->next)
        if (stream->device == device)
            forget(stream);
}

int fake_is_capturing(int device) {
    int found = 0;
    for (Stream *stream = streams; stream; stream = stream->next)
        if (stream->device == device && stream->graph)
            found = stream->is_spoiled = 1;
    return found;
}

static Work *copy_of(const Work *work) {
    Work *copy = malloc(sizeof *copy);
    *copy = *work;
    copy->next = NULL;
    if (work->kind == LAUNCH) {
        void *packed = malloc(work->bytes ? work->bytes : 1);
        copy->from = memcpy(packed, work->from, work->bytes);
    }
    return copy;
}

/* Put a copy of the work on a stream, or into the graph that is captured from it. */
static Status put(Stream *stream, const Work *work) {
    Work *copy = copy_of(work);
    if (stream->graph) {
        if (work->kind == RECORD || work->kind == WAIT) {
            stream->is_spoiled = 1;
            discard(copy);
            return CAPTURE_UNSUPPORTED;
        }
        *stream->graph->end = copy;
        stream->graph->end = &copy->next;
        return SUCCESS;
    }
    copy->ticket = ++stream->ticket;
    *stream->end = copy;
    stream->end = &copy->next;
    int is_kernel = copy->kind == LAUNCH || copy->kind == CALL, is_copy = copy->kind == COPY;
    int is_late = fake_order() == LATE || (fake_order() == LATE_COPIES && !is_kernel)
                  || (fake_order() == LATE_KERNELS && !is_copy);
    return is_late ? SUCCESS : drain(stream, copy->ticket);
}

/* ---------------------------------------------------------------- streams */

Status cuStreamCreate(Stream **stream, unsigned flags) {
    ENTER_CONTEXT;
    *stream = calloc(1, sizeof **stream);
    (*stream)->device = fake_current();
    (*stream)->end = &(*stream)->first;
    pthread_mutex_lock(&lock);
    (*stream)->next = streams;
    streams = *stream;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

Status cuStreamDestroy_v2(Stream *stream) {
    ENTER;
    drain(stream, stream->ticket);
    pthread_mutex_lock(&lock);
    for (Stream **link = &streams; *link; link = &(*link)->next)
        if (*link == stream) {
            *link = stream->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    /* The stream itself stays: an event may still point to it. A few bytes a test. */
    return SUCCESS;
}

Status cuStreamSynchronize(Stream *stream) {
    ENTER_UNCAPTURED;
    stream = stream_of(stream);
    return drain(stream, stream->ticket);
}

Status cuStreamQuery(Stream *stream) {
    ENTER_UNCAPTURED;
    return stream_of(stream)->first ? NOT_READY : SUCCESS;
}

Status cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
    ENTER_CONTEXT;
    if (!event->stream)
        return SUCCESS;
    Work work = {.kind = WAIT, .other = event->stream, .until = event->ticket};
    return put(stream_of(stream), &work);
}

Status cuLaunchHostFunc(Stream *stream, void (*call)(void *), void *data) {
    ENTER_CONTEXT;
    Work work = {.kind = CALL, .call = call, .to = data};
    return put(stream_of(stream), &work);
}

/* ---------------------------------------------------------------- events */

Status cuEventCreate(Event **event, unsigned flags) {
    ENTER_CONTEXT;
    *event = calloc(1, sizeof **event);
    return SUCCESS;
}

/* Its work may still wait on a stream, as the driver allows: the event itself stays. */
Status cuEventDestroy_v2(Event *event) {
    ENTER;
    return SUCCESS;
}

Status cuEventRecord(Event *event, Stream *stream) {
    ENTER_CONTEXT;
    stream = stream_of(stream);
    if (!stream->graph) {
        event->stream = stream;
        event->ticket = stream->ticket + 1;
    }
    Work work = {.kind = RECORD, .event = event};
    return put(stream, &work);
}

Status cuEventSynchronize(Event *event) {
    ENTER_UNCAPTURED;
    return event->stream ? drain(event->stream, event->ticket) : SUCCESS;
}

Status cuEventQuery(Event *event) {
    ENTER_CONTEXT;
    return event->stream && event->stream->done < event->ticket ? NOT_READY : SUCCESS;
}

Status cuEventElapsedTime_v2(float *ms, Event *from, Event *to) {
    ENTER_CONTEXT;
    if (!from->stream || !to->stream)
        return INVALID_HANDLE;
    if (from->stream->done < from->ticket || to->stream->done < to->ticket)
        return NOT_READY;
    *ms = (float)(to->ms - from->ms);
    return SUCCESS;
}

/* ---------------------------------------------------------------- work on streams */

static Status copy(void *to, const void *from, size_t bytes, Stream *stream, const void *host) {
    stream = stream_of(stream);
    Work work = {.kind = COPY, .to = to, .from = from, .bytes = bytes};
    if (host && !fake_is_pinned(host, bytes)) { /* the driver goes through memory of its own */
        fake_note_pageable();
        Status status = drain(stream, stream->ticket);
        if (status)
            return status;
        memmove(to, from, bytes);
        return SUCCESS;
    }
    return put(stream, &work);
}

Status cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Stream *stream) {
    ENTER_CONTEXT;
    if (!fake_is_allocated(to, bytes))
        return INVALID_VALUE;
    return copy((void *)(uintptr_t)to, from, bytes, stream, from);
}

Status cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Stream *stream) {
    ENTER_CONTEXT;
    if (!fake_is_allocated(from, bytes))
        return INVALID_VALUE;
    return copy(to, (void *)(uintptr_t)from, bytes, stream, to);
}

Status cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Stream *stream) {
    ENTER_CONTEXT;
    if (!fake_is_allocated(to, bytes) || !fake_is_allocated(from, bytes))
        return INVALID_VALUE;
    return copy((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes, stream, NULL);
}

Status cuMemsetD8Async(Address at, unsigned char value, size_t bytes, Stream *stream) {
    ENTER_CONTEXT;
    if (!fake_is_allocated(at, bytes))
        return INVALID_VALUE;
    Work work = {.kind = FILL8, .to = (void *)(uintptr_t)at, .value = value, .bytes = bytes};
    return put(stream_of(stream), &work);
}

Status cuMemsetD32Async(Address at, unsigned value, size_t count, Stream *stream) {
    ENTER_CONTEXT;
    if (!fake_is_allocated(at, count * 4))
        return INVALID_VALUE;
    Work work = {.kind = FILL32, .to = (void *)(uintptr_t)at, .value = value, .bytes = count * 4};
    return put(stream_of(stream), &work);
}

Status fake_put_launch(
    Stream *stream, FakeLaunch launch, const unsigned grid[3], const unsigned block[3],
    const void *packed, size_t bytes) {
    Work work = {.kind = LAUNCH, .launch = launch, .from = packed, .bytes = bytes};
    memcpy(work.grid, grid, sizeof work.grid);
    memcpy(work.block, block, sizeof work.block);
    return put(stream_of(stream), &work);
}

/* ---------------------------------------------------------------- graphs */

static void discard_graph(Graph *graph) {
    for (Work *work = graph->first, *next; work; work = next) {
        next = work->next;
        discard(work);
    }
    free(graph);
}

Status cuStreamBeginCapture_v2(Stream *stream, int mode) {
    ENTER_CONTEXT;
    if (!fake_has_graphs())
        return NOT_SUPPORTED;
    if (!stream || stream->graph)
        return CAPTURE_UNSUPPORTED;
    stream->graph = calloc(1, sizeof *stream->graph);
    stream->graph->end = &stream->graph->first;
    stream->is_spoiled = 0;
    return SUCCESS;
}

Status cuStreamEndCapture(Stream *stream, Graph **graph) {
    ENTER_CONTEXT;
    if (!stream || !stream->graph)
        return INVALID_VALUE;
    Graph *captured = stream->graph;
    stream->graph = NULL;
    *graph = NULL;
    if (stream->is_spoiled) {
        discard_graph(captured);
        return CAPTURE_INVALIDATED;
    }
    *graph = captured;
    return SUCCESS;
}

Status cuGraphInstantiateWithFlags(Graph **executable, const Graph *graph, uint64_t flags) {
    ENTER_CONTEXT;
    *executable = calloc(1, sizeof **executable);
    (*executable)->end = &(*executable)->first;
    for (Work *work = graph->first; work; work = work->next) {
        Work *copy = copy_of(work);
        *(*executable)->end = copy;
        (*executable)->end = &copy->next;
    }
    return SUCCESS;
}

Status cuGraphLaunch(Graph *executable, Stream *stream) {
    ENTER_CONTEXT;
    Status status = SUCCESS;
    for (Work *work = executable->first; work && !status; work = work->next)
        status = put(stream_of(stream), work);
    return status;
}

Status cuGraphExecDestroy(Graph *executable) {
    ENTER;
    discard_graph(executable);
    return SUCCESS;
}

Status cuGraphDestroy(Graph *graph) {
    ENTER;
    discard_graph(graph);
    return SUCCESS;
}

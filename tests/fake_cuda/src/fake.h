/* What the parts of the fake driver know of each other. See ../README.md for what it imitates. */
#pragma once
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

typedef int Status; /* CUresult */
typedef uint64_t Address; /* CUdeviceptr; here a pointer of the host */

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
};

#define DEVICES_MAX 8

/* When work that was put on a stream is done; see streams.c. */
typedef enum { AT_ONCE, LATE, LATE_COPIES, LATE_KERNELS } Order;

/* control.c: what tests set and ask. */
Status fake_enter(const char *name); /* counts a call; returns the error injected into it, or 0 */
int fake_device_count(void);
size_t fake_memory_bytes(void);
Order fake_order(void);
int fake_has_graphs(void);
void fake_note_pageable(void);
void fake_note_overrun(void);
void fake_note_leak(size_t bytes);

/* contexts.c: whose turn it is, and which devices are past use. */
int fake_current(void); /* the device on top of this thread's stack; -1 if none */
Status fake_broken(int device); /* the error after which nothing works, or 0 */
Status fake_break(int device, Status error); /* remembers it, if it is one of those; returns it */

/* memory.c */
int fake_is_allocated(Address at, size_t bytes);
int fake_is_pinned(const void *at, size_t bytes);
size_t fake_release_all(int device); /* frees what is left of a device; returns its bytes */

/* streams.c */
Status fake_drain_device(int device); /* does all work that waits on the device's streams */
Status fake_drain_default(int device); /* the stream that has no name */
void fake_forget_work(int device); /* what goes with a context that goes */
int fake_is_capturing(int device); /* also spoils the capture: what asks is not allowed in one */

/* faults.c */
Status fake_guarded(void (*act)(void *what), void *what); /* 700 if it touches what is not there */

/* modules.c */
typedef void (*FakeLaunch)(const unsigned grid[3], const unsigned block[3], const void *packed);
Status fake_run_kernel(
    FakeLaunch launch, const unsigned grid[3], const unsigned block[3], const void *packed);

/* Every call of the driver begins with one of these. */
#define ENTER \
    do { \
        Status entered_ = fake_enter(__func__); \
        if (entered_) \
            return entered_; \
    } while (0)

#define ENTER_CONTEXT \
    ENTER; \
    do { \
        if (fake_current() < 0) \
            return INVALID_CONTEXT; \
        Status broken_ = fake_broken(fake_current()); \
        if (broken_) \
            return broken_; \
    } while (0)

/* Work that no capture may contain: it would have to be done now. */
#define ENTER_UNCAPTURED \
    ENTER_CONTEXT; \
    do { \
        if (fake_is_capturing(fake_current())) \
            return CAPTURE_UNSUPPORTED; \
    } while (0)

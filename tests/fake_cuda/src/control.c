/* What tests set and ask: devices, memory, injected failures, counts. */
#include "fake.h"
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 256

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int devices, order, graphs;
static size_t memory_bytes;

static struct {
    const char *name;
    long calls;
} counts[NAMES_MAX];
static long calls_of_all;

static char fail_name[64];
static long fail_at, fail_left;
static Status fail_with;

static long pageable, overruns;
static size_t leaked_bytes;

void fake_cuda_set(int device_count, size_t bytes, int the_order, int has_graphs) {
    pthread_mutex_lock(&lock);
    devices = device_count < DEVICES_MAX ? device_count : DEVICES_MAX;
    memory_bytes = bytes;
    order = the_order;
    graphs = has_graphs;
    pthread_mutex_unlock(&lock);
}

/* Let some calls of a name ("*": of any), from the n-th from now, answer an error. */
void fake_cuda_fail(const char *name, long n, long times, Status error) {
    pthread_mutex_lock(&lock);
    strncpy(fail_name, name, sizeof fail_name - 1);
    fail_at = n;
    fail_left = times;
    fail_with = error;
    pthread_mutex_unlock(&lock);
}

/* How often a name ("*": any) was called since counting began. */
long fake_cuda_calls(const char *name) {
    long calls = 0;
    pthread_mutex_lock(&lock);
    if (!strcmp(name, "*"))
        calls = calls_of_all;
    for (int i = 0; i < NAMES_MAX && counts[i].name; i++)
        if (!strcmp(counts[i].name, name))
            calls += counts[i].calls;
    pthread_mutex_unlock(&lock);
    return calls;
}

long fake_cuda_pageable(void) { return pageable; }
long fake_cuda_overruns(void) { return overruns; }
size_t fake_cuda_leaked(void) { return leaked_bytes; }

/* Begin to count again, and let no call fail. */
void fake_cuda_forget(void) {
    pthread_mutex_lock(&lock);
    memset(counts, 0, sizeof counts);
    calls_of_all = fail_left = pageable = overruns = 0;
    leaked_bytes = 0;
    pthread_mutex_unlock(&lock);
}

Status fake_enter(const char *name) {
    Status status = SUCCESS;
    pthread_mutex_lock(&lock);
    calls_of_all++;
    for (int i = 0; i < NAMES_MAX; i++) {
        if (!counts[i].name)
            counts[i].name = name;
        if (counts[i].name == name) {
            counts[i].calls++;
            break;
        }
    }
    if (fail_left && (!strcmp(fail_name, "*") || !strcmp(fail_name, name)) && --fail_at <= 0) {
        fail_left--;
        status = fail_with;
    }
    pthread_mutex_unlock(&lock);
    return status && fake_current() >= 0 ? fake_break(fake_current(), status) : status;
}

int fake_device_count(void) { return devices; }
size_t fake_memory_bytes(void) { return memory_bytes; }
Order fake_order(void) { return (Order)order; }
int fake_has_graphs(void) { return graphs; }

static void add(long *to) {
    pthread_mutex_lock(&lock);
    ++*to;
    pthread_mutex_unlock(&lock);
}

void fake_note_pageable(void) { add(&pageable); }
void fake_note_overrun(void) { add(&overruns); }

void fake_note_leak(size_t bytes) {
    pthread_mutex_lock(&lock);
    leaked_bytes += bytes;
    pthread_mutex_unlock(&lock);
}

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

/* For processes that no test reaches into: the same by environment variables. */
__attribute__((constructor)) static void read_environment(void) {
    fake_cuda_set(
        (int)setting("FAKE_CUDA_DEVICES", 1), (size_t)setting("FAKE_CUDA_MEM_MB", 1024) << 20,
        (int)setting("FAKE_CUDA_ORDER", AT_ONCE), (int)setting("FAKE_CUDA_GRAPHS", 0));
    const char *text = getenv("FAKE_CUDA_FAIL"); /* cuMemAlloc_v2:3, or with the error: cuMemAlloc_v2:3:2 */
    if (!text)
        return;
    char name[64] = "";
    size_t length = strcspn(text, ":");
    strncpy(name, text, length < sizeof name ? length : sizeof name - 1);
    char *rest = (char *)text + length;
    long n = *rest ? strtol(rest + 1, &rest, 10) : 1;
    fake_cuda_fail(name, n, 1, *rest ? atoi(rest + 1) : ILLEGAL_ADDRESS);
}

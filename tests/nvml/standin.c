/* A stand-in libnvidia-ml.so.1: NVML boards whose power is a known function of CLOCK_MONOTONIC.
 *
 * It owns the arithmetic of the simulated boards and nothing else: every call is a pure function
 * of the clock and of the configuration file named by NVML_STANDIN (read at nvmlInit; without it
 * one 300 W board). It reports driver version 0.0.standin, so whatever is metered through it is
 * marked simulated. tests/nvml/curve.py writes the file and computes the exact integrals.
 *
 * File: one `key value…` per line; `gpu` starts a board and the keys after it belong to it.
 * Times `…_at` and `from`, `to` are absolute CLOCK_MONOTONIC seconds, 0 meaning never; with a
 * `trigger FILE` they count from the CLOCK_MONOTONIC seconds written there, once it exists.
 * `fail WHAT CODE from to` lets a board answer CODE to its energy, power, state, processes or all.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };
enum { MAX_GPUS = 16, MAX_PROCESSES = 16, MAX_FAILURES = 8, LOAD_BYTES = 65536, LEVELS = 4096, FIELD_ENERGY = 83, FIELD_AVERAGE = 185,
       FIELD_INSTANT = 186, VALUE_UINT = 1, VALUE_ULONGLONG = 3 };

typedef struct { unsigned pid; unsigned long long bytes; double from, to; } Process;
typedef struct { char what[16]; int code; double from, to; } Failure;

typedef struct {
    char name[96], uuid[80], curve[16];
    double low_w, high_w, period_s, duty;
    double memory_mib, limit_w, default_limit_w;  /* 0 W: the default is the limit */
    int counter, instant, average, legacy, mig;
    int accumulates, tick_held;
    double tick_s, tick_phase_s, tick_jitter_s, origin_s;
    double sensor_period_s, sensor_phase_s, sensor_window_s, legacy_window_s;
    double reset_at, reset_every_s, lost_at, throttle_at, stale_at, stuck_at;
    unsigned long long throttle;
    unsigned sm_mhz, memory_mhz, temperature_c, utilization, architecture;
    double latency_us;
    Process processes[MAX_PROCESSES];
    Failure failures[MAX_FAILURES];
    int process_count, failure_count, index;
    const double *load; /* the curve `load`: (seconds, watts) from then on, zeros after the last */
    double summed, sum_j; /* an accumulating counter: updates summed so far, and their joules */
} Gpu;

static Gpu gpus[MAX_GPUS];
static int gpu_count, initialised, init_error;
static char driver[80] = "0.0.standin", trigger[200];

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* When an event is due: at once or never (0), or after the trigger, which may be still to come. */
static double when(double at) {
    static double fired;
    if (at <= 0 || !*trigger) return at;
    if (fired <= 0) {
        FILE *file = fopen(trigger, "r");
        if (file && fscanf(file, "%lf", &fired) != 1) fired = 0;
        if (file) fclose(file);
    }
    return fired > 0 ? fired + at : INFINITY;
}

/* ---- the curve: power in W and its integral from 0, in J ----------------------------------- */

/* A number in [0, 1) that looks random and is the same for the same k. */
static double chance(double k) {
    uint64_t z = (uint64_t)k + 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    return (double)(z >> 11) / 9007199254740992.0;
}

static double clamp(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

/* The sum of the first n of the levels, in [0, 1), that a noisy board goes through over and over. */
static double levels(int n) {
    static double sums[LEVELS + 1];
    if (sums[LEVELS] == 0)
        for (int i = 0; i < LEVELS; i++) sums[i + 1] = sums[i] + chance(i);
    return sums[n];
}

/* The board draws low_w until the first pair; a test writes pairs ahead of the clock. */
static double load_j(const Gpu *g, double t) {
    double sum_j = g->low_w * t;
    for (const double *p = g->load; p && p[0] > 0 && p[0] < t; p += 2) {
        double until = p[2] > 0 && p[2] < t ? p[2] : t;
        sum_j += (p[1] - g->low_w) * (until - p[0]);
    }
    return sum_j;
}

static double energy_j(const Gpu *g, double t) {
    if (!strcmp(g->curve, "constant")) return g->low_w * t;
    if (!strcmp(g->curve, "load")) return load_j(g, t);
    double k = floor(t / g->period_s), u = t - k * g->period_s;
    double rise = g->high_w - g->low_w, width = g->duty * g->period_s;
    if (!strcmp(g->curve, "ramp"))
        return g->low_w * t + rise * (k * g->period_s + u * u / g->period_s) / 2.0;
    if (!strcmp(g->curve, "drift")) {
        double whole = g->period_s - width * (1.0 - exp(-1.0 / g->duty));
        return g->low_w * t + rise * (k * whole + u - width * (1.0 - exp(-u / width)));
    }
    if (!strcmp(g->curve, "noise")) {
        double rounds = floor(k / LEVELS);
        int i = (int)(k - rounds * LEVELS);
        return g->low_w * t + rise * ((rounds * levels(LEVELS) + levels(i)) * g->period_s
                                      + chance(i) * u);
    }
    double start = !strcmp(g->curve, "burst") ? chance(k) * (1.0 - g->duty) * g->period_s : 0.0;
    return g->low_w * t + rise * (k * width + clamp(u - start, 0.0, width));
}

/* The instant of the sensor's last update before t. */
static double updated(const Gpu *g, double t) {
    if (g->stale_at > 0) t = fmin(t, when(g->stale_at));
    return floor((t - g->sensor_phase_s) / g->sensor_period_s) * g->sensor_period_s
           + g->sensor_phase_s;
}

static double mean_w(const Gpu *g, double t, double window) {
    double end = updated(g, t);
    return (energy_j(g, end) - energy_j(g, end - window)) / window;
}

/* The instant of the counter's last tick before t, and the one its value is of. */
static double ticked(const Gpu *g, double t, double *of) {
    if (g->tick_s <= 0) return *of = t;
    double k = floor((t - g->tick_phase_s) / g->tick_s);
    if (k * g->tick_s + g->tick_phase_s + g->tick_jitter_s * chance(k) > t) k--;
    double grid = k * g->tick_s + g->tick_phase_s, at = grid + g->tick_jitter_s * chance(k);
    *of = g->tick_held ? grid : at;  /* the same for the same tick, to the last bit */
    return at;
}

/* What a counter shows that adds up the sensor's readings instead of the energy. */
static double sum_of_readings_j(Gpu *g, double t) {
    double n = floor((t - g->sensor_phase_s) / g->sensor_period_s);
    double first = floor((g->origin_s - g->sensor_phase_s) / g->sensor_period_s);
    if (g->summed < first || g->summed > n) g->summed = first, g->sum_j = 0;
    for (; g->summed < n; g->summed++) {
        double at = (g->summed + 1) * g->sensor_period_s + g->sensor_phase_s;
        g->sum_j += (energy_j(g, at) - energy_j(g, at - g->sensor_window_s))
                    / g->sensor_window_s * g->sensor_period_s;
    }
    return g->sum_j;
}

static double counter_j(Gpu *g, double t) {
    if (g->stuck_at > 0) t = fmin(t, when(g->stuck_at));
    double of, at = ticked(g, t, &of);
    if (g->accumulates) return sum_of_readings_j(g, of);
    if (g->reset_at <= 0 || t < when(g->reset_at)) return energy_j(g, of);
    double every = g->reset_every_s, last = when(g->reset_at);
    if (every > 0) last += floor((t - last) / every) * every;
    return at > last && of > last ? energy_j(g, of) - energy_j(g, last) : 0.0;
}

/* ---- the configuration file ------------------------------------------------------------------ */

static Gpu *add_gpu(void) {
    if (gpu_count == MAX_GPUS) return NULL;
    Gpu *g = &gpus[gpu_count];
    memset(g, 0, sizeof *g);
    g->index = gpu_count++;
    strcpy(g->name, "NVIDIA H100 80GB HBM3");
    snprintf(g->uuid, sizeof g->uuid, "GPU-00000000-0000-0000-0000-%012d", g->index);
    strcpy(g->curve, "constant");
    g->low_w = g->high_w = 300, g->period_s = 1, g->duty = 0.5;
    g->memory_mib = 81559, g->limit_w = 700;
    g->counter = g->instant = g->average = g->legacy = 1;
    g->tick_s = 0.02, g->tick_phase_s = 0.00137, g->sensor_period_s = 0.1, g->sensor_window_s = 0.025;
    g->legacy_window_s = 1.0;
    g->sm_mhz = 1980, g->memory_mhz = 2619, g->temperature_c = 50, g->utilization = 90, g->architecture = 9;
    return g;
}

static const double *map_load(const char *path) {
    int file = open(path, O_RDONLY);
    void *at = mmap(NULL, LOAD_BYTES, PROT_READ, MAP_SHARED, file, 0);
    if (file < 0 || at == MAP_FAILED) { fprintf(stderr, "NVML stand-in: no load %s\n", path); abort(); }
    return at;
}

static int set_text(Gpu *g, const char *key, const char *value) {
    if (!strcmp(key, "name")) snprintf(g->name, sizeof g->name, "%s", value);
    else if (!strcmp(key, "uuid")) snprintf(g->uuid, sizeof g->uuid, "%s", value);
    else if (!strcmp(key, "curve")) snprintf(g->curve, sizeof g->curve, "%.15s", value);
    else if (!strcmp(key, "load")) g->load = map_load(value);
    else if (!strcmp(key, "process") && g->process_count < MAX_PROCESSES) {
        Process *p = &g->processes[g->process_count++];
        p->from = p->to = 0;
        sscanf(value, "%u %llu %lf %lf", &p->pid, &p->bytes, &p->from, &p->to);
    } else if (!strcmp(key, "fail") && g->failure_count < MAX_FAILURES) {
        Failure *f = &g->failures[g->failure_count++];
        f->from = f->to = 0;
        sscanf(value, "%15s %d %lf %lf", f->what, &f->code, &f->from, &f->to);
    } else return 0;
    return 1;
}

static int set_number(Gpu *g, const char *key, double x) {
    const struct { const char *key; double *at; } doubles[] = {
        {"low_w", &g->low_w}, {"high_w", &g->high_w}, {"period_s", &g->period_s},
        {"duty", &g->duty}, {"memory_mib", &g->memory_mib}, {"limit_w", &g->limit_w},
        {"default_limit_w", &g->default_limit_w},
        {"tick_s", &g->tick_s}, {"tick_phase_s", &g->tick_phase_s},
        {"tick_jitter_s", &g->tick_jitter_s}, {"origin_s", &g->origin_s},
        {"sensor_phase_s", &g->sensor_phase_s}, {"stale_at", &g->stale_at},
        {"stuck_at", &g->stuck_at},
        {"sensor_period_s", &g->sensor_period_s}, {"sensor_window_s", &g->sensor_window_s},
        {"legacy_window_s", &g->legacy_window_s}, {"reset_at", &g->reset_at},
        {"reset_every_s", &g->reset_every_s}, {"lost_at", &g->lost_at}, {"throttle_at", &g->throttle_at},
        {"latency_us", &g->latency_us}};
    const struct { const char *key; int *at; } ints[] = {
        {"counter", &g->counter}, {"instant", &g->instant}, {"average", &g->average},
        {"legacy", &g->legacy}, {"mig", &g->mig}, {"accumulates", &g->accumulates},
        {"tick_held", &g->tick_held}};
    const struct { const char *key; unsigned *at; } unsigneds[] = {
        {"sm_mhz", &g->sm_mhz}, {"memory_mhz", &g->memory_mhz},
        {"temperature_c", &g->temperature_c}, {"utilization", &g->utilization},
        {"architecture", &g->architecture}};
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        if (!strcmp(key, doubles[i].key)) return *doubles[i].at = x, 1;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if (!strcmp(key, ints[i].key)) return *ints[i].at = (int)x, 1;
    for (size_t i = 0; i < sizeof unsigneds / sizeof *unsigneds; i++)
        if (!strcmp(key, unsigneds[i].key)) return *unsigneds[i].at = (unsigned)x, 1;
    if (!strcmp(key, "throttle")) return g->throttle = (unsigned long long)x, 1;
    return 0;
}

static void set_global(const char *key, const char *value) {
    if (!strcmp(key, "driver")) snprintf(driver, sizeof driver, "%.79s", value);
    else if (!strcmp(key, "init_error")) init_error = atoi(value);
    else if (!strcmp(key, "trigger")) snprintf(trigger, sizeof trigger, "%.199s", value);
    else { fprintf(stderr, "NVML stand-in: unknown key %s\n", key); abort(); }
}

static void configure(void) {
    const char *path = getenv("NVML_STANDIN");
    gpu_count = 0, init_error = 0, *trigger = 0;
    if (!path || !*path) { add_gpu(); return; }
    FILE *file = fopen(path, "r");
    if (!file) { fprintf(stderr, "NVML stand-in: cannot read %s\n", path); abort(); }
    char line[256];
    Gpu *g = NULL;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *value = strchr(line, ' ');
        if (value) *value++ = 0; else value = line + strlen(line);
        if (!*line || *line == '#') continue;
        if (!strcmp(line, "gpu")) g = add_gpu();
        else if (!g || !(set_text(g, line, value) || set_number(g, line, atof(value))))
            set_global(line, value);
    }
    fclose(file);
}

/* ---- what every call on a board goes through ------------------------------------------------- */

static void spin_us(double us) {
    double until = now_s() + us * 1e-6;
    while (us > 0 && now_s() < until) {}
}

static int failing(const Gpu *g, const char *what, double t) {
    for (int i = 0; i < g->failure_count; i++) {
        const Failure *f = &g->failures[i];
        if ((!strcmp(f->what, what) || !strcmp(f->what, "all")) && t >= when(f->from)
            && (f->to <= 0 || t < when(f->to))) return f->code;
    }
    return SUCCESS;
}

/* Wait half the latency, note the time the values are of, wait the other half after. */
static int enter(const Gpu *g, const char *what, double *t) {
    if (!initialised) return UNINITIALIZED;
    if (g < gpus || g >= gpus + gpu_count) return INVALID_ARGUMENT;
    spin_us(g->latency_us / 2);
    *t = now_s();
    spin_us(g->latency_us / 2);
    return g->lost_at > 0 && *t >= when(g->lost_at) ? GPU_IS_LOST : failing(g, what, *t);
}

#define ENTER(g, what) \
    double t; int entered = enter(g, what, &t); if (entered) return entered; (void)t

/* ---- library and system ---------------------------------------------------------------------- */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    configure();
    initialised = !init_error;
    return init_error;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return initialised ? SUCCESS : UNINITIALIZED; }

const char *nvmlErrorString(int code) {
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case NOT_SUPPORTED: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case 9: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    if (!initialised) return UNINITIALIZED;
    snprintf(out, size, "%s", driver);
    return SUCCESS;
}
int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    return nvmlSystemGetDriverVersion(out, size);
}
int nvmlSystemGetCudaDriverVersion_v2(int *out) { *out = 13000; return SUCCESS; }
int nvmlSystemGetCudaDriverVersion(int *out) { *out = 13000; return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned *out) {
    if (!initialised) return UNINITIALIZED;
    *out = (unsigned)gpu_count;
    return SUCCESS;
}
int nvmlDeviceGetCount(unsigned *out) { return nvmlDeviceGetCount_v2(out); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **out) {
    if (!initialised) return UNINITIALIZED;
    if ((int)index >= gpu_count) return INVALID_ARGUMENT;
    *out = &gpus[index];
    return gpus[index].lost_at > 0 && now_s() >= when(gpus[index].lost_at) ? GPU_IS_LOST : SUCCESS;
}
int nvmlDeviceGetHandleByIndex(unsigned index, Gpu **out) {
    return nvmlDeviceGetHandleByIndex_v2(index, out);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Gpu **out) {
    if (!initialised) return UNINITIALIZED;
    for (int i = 0; i < gpu_count; i++)
        if (!strcmp(gpus[i].uuid, uuid)) return nvmlDeviceGetHandleByIndex_v2((unsigned)i, out);
    return NOT_FOUND;
}

/* ---- identity -------------------------------------------------------------------------------- */

int nvmlDeviceGetName(Gpu *g, char *out, unsigned size) {
    ENTER(g, "identity");
    snprintf(out, size, "%s", g->name);
    return SUCCESS;
}
int nvmlDeviceGetUUID(Gpu *g, char *out, unsigned size) {
    ENTER(g, "identity");
    snprintf(out, size, "%s", g->uuid);
    return SUCCESS;
}
int nvmlDeviceGetIndex(Gpu *g, unsigned *out) { ENTER(g, "identity"); *out = (unsigned)g->index; return 0; }
int nvmlDeviceGetMinorNumber(Gpu *g, unsigned *out) { return nvmlDeviceGetIndex(g, out); }

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
int nvmlDeviceGetMemoryInfo(Gpu *g, Memory *out) {
    ENTER(g, "identity");
    out->total = (unsigned long long)(g->memory_mib * 1048576.0), out->used = 0;
    for (int i = 0; i < g->process_count; i++) out->used += g->processes[i].bytes;
    out->free = out->total - out->used;
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo_v2(Gpu *g, Memory2 *out) {
    Memory m;
    int code = nvmlDeviceGetMemoryInfo(g, &m);
    if (!code) out->total = m.total, out->free = m.free, out->used = m.used, out->reserved = 0;
    return code;
}

int nvmlDeviceGetMigMode(Gpu *g, unsigned *current, unsigned *pending) {
    ENTER(g, "identity");
    if (g->mig < 0) return NOT_SUPPORTED;
    *current = *pending = (unsigned)g->mig;
    return SUCCESS;
}
int nvmlDeviceGetCudaComputeCapability(Gpu *g, int *major, int *minor) {
    ENTER(g, "identity");
    *major = 9, *minor = 0;
    return SUCCESS;
}
int nvmlDeviceGetArchitecture(Gpu *g, unsigned *out) { ENTER(g, "identity"); *out = g->architecture; return SUCCESS; }
int nvmlDeviceGetComputeMode(Gpu *g, unsigned *out) { ENTER(g, "identity"); *out = 0; return SUCCESS; }
int nvmlDeviceGetEccMode(Gpu *g, unsigned *current, unsigned *pending) {
    ENTER(g, "identity");
    *current = *pending = 1;
    return SUCCESS;
}

/* ---- sensors --------------------------------------------------------------------------------- */

int nvmlDeviceGetTotalEnergyConsumption(Gpu *g, unsigned long long *out) {
    ENTER(g, "energy");
    if (!g->counter) return NOT_SUPPORTED;
    *out = (unsigned long long)floor(counter_j(g, t) * 1000.0);
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(Gpu *g, unsigned *out) {
    ENTER(g, "power");
    if (!g->legacy) return NOT_SUPPORTED;
    *out = (unsigned)(mean_w(g, t, g->legacy_window_s) * 1000.0);
    return SUCCESS;
}

typedef struct {
    unsigned field, scope;
    long long timestamp_us, latency_us;
    unsigned type;
    int code;
    union { unsigned ui; unsigned long long ull; double d; } value;
} FieldValue;

static double unix_minus_monotonic_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec - now_s();
}

/* A power value carries the Unix time, in us, of the update that brought it. */
static void power_field(const Gpu *g, double t, double window_s, FieldValue *v) {
    v->value.ui = (unsigned)(mean_w(g, t, window_s) * 1000.0);
    v->timestamp_us = (long long)((updated(g, t) + unix_minus_monotonic_s()) * 1e6);
    v->code = failing(g, "power", t);
}

int nvmlDeviceGetFieldValues(Gpu *g, int count, FieldValue *values) {
    ENTER(g, "fields");
    for (int i = 0; i < count; i++) {
        FieldValue *v = &values[i];
        v->code = NOT_SUPPORTED, v->type = VALUE_UINT;
        v->timestamp_us = (long long)((t + unix_minus_monotonic_s()) * 1e6);
        if (v->field == FIELD_INSTANT && g->instant) power_field(g, t, g->sensor_window_s, v);
        else if (v->field == FIELD_AVERAGE && g->average) power_field(g, t, 1.0, v);
        else if (v->field == FIELD_ENERGY && g->counter) {
            v->value.ull = (unsigned long long)floor(counter_j(g, t) * 1000.0);
            v->type = VALUE_ULONGLONG, v->code = failing(g, "energy", t);
        }
    }
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(Gpu *g, unsigned *out) {
    ENTER(g, "state");
    *out = (unsigned)(g->limit_w * 1000.0);
    return SUCCESS;
}
int nvmlDeviceGetPowerManagementLimit(Gpu *g, unsigned *out) {
    return nvmlDeviceGetEnforcedPowerLimit(g, out);
}
int nvmlDeviceGetPowerManagementDefaultLimit(Gpu *g, unsigned *out) {
    ENTER(g, "state");
    *out = (unsigned)((g->default_limit_w > 0 ? g->default_limit_w : g->limit_w) * 1000.0);
    return SUCCESS;
}
int nvmlDeviceGetClockInfo(Gpu *g, unsigned which, unsigned *out) {
    ENTER(g, "state");
    *out = which == 2 ? g->memory_mhz : g->sm_mhz;
    return SUCCESS;
}
int nvmlDeviceGetTemperature(Gpu *g, unsigned sensor, unsigned *out) {
    ENTER(g, "state");
    (void)sensor;
    *out = g->temperature_c;
    return SUCCESS;
}
typedef struct { unsigned gpu, memory; } Utilization;
int nvmlDeviceGetUtilizationRates(Gpu *g, Utilization *out) {
    ENTER(g, "state");
    out->gpu = g->utilization, out->memory = g->utilization / 2;
    return SUCCESS;
}
int nvmlDeviceGetCurrentClocksEventReasons(Gpu *g, unsigned long long *out) {
    ENTER(g, "state");
    *out = t >= when(g->throttle_at) ? g->throttle : 0;
    return SUCCESS;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(Gpu *g, unsigned long long *out) {
    return nvmlDeviceGetCurrentClocksEventReasons(g, out);
}

/* ---- processes ------------------------------------------------------------------------------- */

typedef struct { unsigned pid; unsigned long long bytes; unsigned gi, ci; } ProcessInfo;

int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *g, unsigned *count, ProcessInfo *out) {
    ENTER(g, "processes");
    unsigned size = *count, n = 0;
    for (int i = 0; i < g->process_count; i++) {
        const Process *p = &g->processes[i];
        if (t < when(p->from) || (p->to > 0 && t >= when(p->to))) continue;
        if (out && n < size) out[n] = (ProcessInfo){p->pid, p->bytes, ~0u, ~0u};
        n++;
    }
    *count = n;
    return n > size || (!out && n) ? INSUFFICIENT_SIZE : SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v2(Gpu *g, unsigned *count, ProcessInfo *out) {
    return nvmlDeviceGetComputeRunningProcesses_v3(g, count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Gpu *g, unsigned *count, ProcessInfo *out) {
    ENTER(g, "processes");
    (void)out;
    *count = 0;
    return SUCCESS;
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(Gpu *g, unsigned *count, ProcessInfo *out) {
    return nvmlDeviceGetGraphicsRunningProcesses_v3(g, count, out);
}

/* Python callables that are bound to a native metric (`counter.inc`, `histogram.observe`, `gauge.set` without a Python
 * frame and without cffi's conversions), objects that own the engine's handles, and the text of a scrape as a Python
 * object. The adapter for a client library puts the callables on instances of that library's classes; `_engine.py`
 * does the rest.
 *
 * The callables keep the GIL, allocate nothing, and raise no errors themselves. Every call that is not plainly right (a
 * type other than float, int and bool, a wrong number of arguments, an amount that the engine refuses) goes to the
 * method of the class that the callable replaces. The first use of a label set goes to a function of the adapter. What
 * has an exemplar goes to _exemplars.py.
 *
 * build_native.py appends this file to the source of cffi's module, so both modules are one shared library. It uses the
 * stable ABI only, and so serves every CPython from 3.9 on.
 */

/* In the stable ABI by name since 3.10; the convention is that of 3.7. */
#ifndef METH_FASTCALL
#define METH_FASTCALL 0x0080
#endif

#include <structmember.h>
#include <time.h>

/* In the stable ABI by name since 3.10, and exported by every CPython since 3.3. */
PyAPI_FUNC(const char *) PyUnicode_AsUTF8AndSize(PyObject *text, Py_ssize_t *length);

/* Owns a handle of the engine and frees it when its reference count drops to zero. Unlike `ffi.gc` it has no finalizer:
 * the garbage collector may run a finalizer before a `__del__` in the same garbage that still uses the handle. */
typedef struct {
  PyObject_HEAD
  void *handle;
  void (*release)(void *);
} Owner;

static PyObject *owner_type;

static void owner_dealloc(PyObject *self) {
  PyObject *type = (PyObject *)Py_TYPE(self);
  if (((Owner *)self)->handle != NULL) ((Owner *)self)->release(((Owner *)self)->handle);
  PyObject_Free(self);
  Py_DECREF(type);
}

static PyObject *own(PyObject *address, void (*release)(void *)) {
  void *handle = PyLong_AsVoidPtr(address);
  if (handle == NULL && PyErr_Occurred()) return NULL;
  Owner *owner = PyObject_New(Owner, (PyTypeObject *)owner_type);
  if (owner == NULL) return NULL;
  owner->handle = handle;
  owner->release = release;
  return (PyObject *)owner;
}

static void release_backend(void *handle) { released_backend_free(handle); }
static void release_family(void *handle) { metric_family_free(handle); }
static void release_metric(void *handle) { metric_free(handle); }

static PyObject *own_backend(PyObject *module, PyObject *address) {
  (void)module;
  return own(address, release_backend);
}

static PyObject *own_family(PyObject *module, PyObject *address) {
  (void)module;
  return own(address, release_family);
}

static PyObject *own_metric(PyObject *module, PyObject *address) {
  (void)module;
  return own(address, release_metric);
}

/* Shorter texts are made in the ordinary way: Python shares one object for all equal strings of one character. */
enum { LONG_TEXT = 4096 };

/* Returns an ASCII string of this length whose characters are not set yet, and where to write them. The pointer is that
 * of the string itself, because the UTF-8 text of an ASCII string is the string. */
static PyObject *new_ascii(Py_ssize_t length, char **characters) {
  PyObject *string = PyUnicode_FromStringAndSize("..", 2);
  if (string == NULL || PyUnicode_Resize(&string, length) != 0) {
    Py_XDECREF(string);
    return NULL;
  }
  *characters = (char *)PyUnicode_AsUTF8AndSize(string, NULL);
  if (*characters == NULL) Py_CLEAR(string);
  return string;
}

static int is_ascii(const char *text, size_t length) {
  unsigned char all = 0;
  for (size_t i = 0; i < length; i++) all |= (unsigned char)text[i];
  return all < 0x80;
}

/* Returns the text at the address of a MetricsText as str (`as_str`) or bytes, and frees it. The text of a scrape has
 * megabytes, so it is copied and freed without the GIL. Only a text that is not ASCII is decoded with it. */
static PyObject *take_text(PyObject *module, PyObject *arguments) {
  PyObject *address;
  int as_str;
  (void)module;
  if (!PyArg_ParseTuple(arguments, "Op", &address, &as_str)) return NULL;
  MetricsText *text = PyLong_AsVoidPtr(address);
  if (text == NULL && PyErr_Occurred()) return NULL;
  const char *data = metrics_text_data(text);
  size_t length = metrics_text_length(text);
  PyObject *taken;
  char *copy = NULL;
  if (!as_str) {
    taken = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (taken != NULL) copy = PyBytes_AsString(taken);
  } else {
    int is_long_ascii = 0;
    if (length >= LONG_TEXT) {
      PyThreadState *state = PyEval_SaveThread();
      is_long_ascii = is_ascii(data, length);
      PyEval_RestoreThread(state);
    }
    taken = is_long_ascii ? new_ascii((Py_ssize_t)length, &copy)
                          : PyUnicode_FromStringAndSize(data, (Py_ssize_t)length);
  }
  PyThreadState *state = PyEval_SaveThread();
  if (copy != NULL) memcpy(copy, data, length);
  metrics_text_free(text);
  PyEval_RestoreThread(state);
  return taken;
}

typedef BackendStatus (*Operation)(const Metric *, double);

/* What a callable is bound to: its `__self__`. */
typedef struct {
  PyObject_HEAD
  /* NULL for `labels`. */
  const Metric *metric;
  /* What `metric` needs to live. For `labels`: the object that holds the children, the sorted label names, the name of
   * the attribute in which it holds them, as a dict, and the function that makes a child. */
  PyObject *keep;
  /* The object whose class has the method that the callable replaces. */
  PyObject *owner;
  /* The same metric if this object is to free it, else NULL. */
  Metric *owned;
} Target;

/* What a callable is bound to if the family of its metric keeps exemplars: the labels of some calls are those of the
 * span in which the program is. */
typedef struct {
  Target target;
  /* How often it has looked for a span in vain since it last found one, and when it last did, by `nanoseconds`. */
  unsigned looks_in_vain;
  int64_t last_look;
} SamplingTarget;

static PyObject *target_type, *sampling_target_type;

static int target_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(((Target *)self)->keep);
  Py_VISIT(((Target *)self)->owner);
  Py_VISIT(Py_TYPE(self));
  return 0;
}

/* There is no tp_clear, as for a tuple: every cycle also goes through the `__dict__` of the owner, which has one. So the
 * metric lives as long as the callable can be called. */
static void target_dealloc(PyObject *self) {
  PyObject *type = (PyObject *)Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (((Target *)self)->owned != NULL) metric_free(((Target *)self)->owned);
  Py_XDECREF(((Target *)self)->keep);
  Py_XDECREF(((Target *)self)->owner);
  PyObject_GC_Del(self);
  Py_DECREF(type);
}

/* The byte that the engine sets while log records wait (see backend_log_waiting). */
static const uint8_t *logs_wait;

/* The function that logs the records, and the module that knows about exemplars, are kept by their interpreter, under
 * these names: a sub-interpreter has its own ones, which must not outlive it. */
static const char DELIVER_LOGS[] = "pytheus_backend_rs.deliver_logs";
static const char EXEMPLARS[] = "pytheus_backend_rs.exemplars";

static PyObject *keep_in_interpreter(const char *name, PyObject *object) {
  PyObject *kept = PyInterpreterState_GetDict(PyInterpreterState_Get());
  if (kept == NULL || PyDict_SetItemString(kept, name, object) != 0) return PyErr_NoMemory();
  Py_INCREF(Py_None);
  return Py_None;
}

/* Returns a borrowed reference; NULL, without an exception, if nothing is kept under this name. */
static PyObject *kept_in_interpreter(const char *name) {
  PyObject *kept = PyInterpreterState_GetDict(PyInterpreterState_Get());
  return kept == NULL ? NULL : PyDict_GetItemString(kept, name);
}

static PyObject *deliver_logs_by(PyObject *module, PyObject *function) {
  (void)module;
  return keep_in_interpreter(DELIVER_LOGS, function);
}

static PyObject *exemplars_by(PyObject *module, PyObject *exemplars) {
  (void)module;
  return keep_in_interpreter(EXEMPLARS, exemplars);
}

static PyObject *is_main_interpreter(PyObject *module, PyObject *unused) {
  (void)module;
  (void)unused;
  return PyBool_FromLong(PyInterpreterState_GetID(PyInterpreterState_Get()) == 0);
}

/* Logs the waiting records and returns `result`, or NULL if a handler was interrupted (KeyboardInterrupt). */
static PyObject *deliver_and_return(PyObject *result) {
  PyObject *function = kept_in_interpreter(DELIVER_LOGS);
  PyObject *none = function == NULL ? NULL : PyObject_CallObject(function, NULL);
  if (none == NULL && PyErr_Occurred()) Py_CLEAR(result);
  Py_XDECREF(none);
  return result;
}

/* Ends a call whose work is done. Costs one relaxed load: the byte only says when to look, and the engine's lock orders
 * the records. */
static inline PyObject *finish(PyObject *result) {
  if (__builtin_expect(__atomic_load_n(logs_wait, __ATOMIC_RELAXED) == 0, 1) || result == NULL) return result;
  return deliver_and_return(result);
}

/* Calls the method `name` of `from` with `first`, and then with the arguments as they came. */
static PyObject *call_with(PyObject *from, const char *name, PyObject *first, PyObject *const *arguments,
                           Py_ssize_t count, PyObject *keywords) {
  Py_ssize_t keyword_count = keywords == NULL ? 0 : PyTuple_Size(keywords);
  PyObject *method = PyObject_GetAttrString(from, name);
  PyObject *positional = PyTuple_New(count + 1);
  PyObject *named = PyDict_New();
  PyObject *result = NULL;
  if (method != NULL && positional != NULL && named != NULL) {
    Py_INCREF(first);
    PyTuple_SetItem(positional, 0, first);
    for (Py_ssize_t i = 0; i < count; i++) {
      Py_INCREF(arguments[i]);
      PyTuple_SetItem(positional, i + 1, arguments[i]);
    }
    int status = 0;
    for (Py_ssize_t i = 0; status == 0 && i < keyword_count; i++) {
      status = PyDict_SetItem(named, PyTuple_GetItem(keywords, i), arguments[count + i]);
    }
    if (status == 0) result = PyObject_Call(method, positional, named);
  }
  Py_XDECREF(method);
  Py_XDECREF(positional);
  Py_XDECREF(named);
  return result;
}

/* What is called for a method and its arguments. */
typedef PyObject *(*Otherwise)(PyObject *self, const char *name, PyObject *const *arguments, Py_ssize_t count,
                               PyObject *keywords);

/* Calls the method `name` of the owner's class, with the arguments as they came. */
static PyObject *call_own(PyObject *self, const char *name, PyObject *const *arguments, Py_ssize_t count,
                          PyObject *keywords) {
  PyObject *owner = ((Target *)self)->owner;
  return call_with((PyObject *)Py_TYPE(owner), name, owner, arguments, count, keywords);
}

/* Tells whether the arguments are one plain number, by position or as `value=`. Converting or comparing other types may
 * run Python code, so those go to the method of the class. */
static inline int is_one_number(PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, double *number) {
  if (keywords == NULL ? count != 1
                       : count != 0 || PyTuple_Size(keywords) != 1 ||
                             PyUnicode_CompareWithASCIIString(PyTuple_GetItem(keywords, 0), "value") != 0) {
    return 0;
  }
  PyObject *value = arguments[0];
  if (PyFloat_Check(value)) {
    *number = PyFloat_AsDouble(value);
    return 1;
  }
  if (Py_TYPE(value) != &PyLong_Type && Py_TYPE(value) != &PyBool_Type) return 0;
  *number = PyLong_AsDouble(value);
  if (*number != -1.0 || PyErr_Occurred() == NULL) return 1;
  /* Too large for a double. */
  PyErr_Clear();
  return 0;
}

/* Does what is not plainly right for `inc` of a counter, or for `observe`. The methods of pytheus' classes have no
 * keyword `exemplar`, so _exemplars.py takes calls that do, also of metrics that keep none: its error says so. */
static PyObject *count_otherwise(PyObject *self, const char *name, PyObject *const *arguments, Py_ssize_t count,
                                 PyObject *keywords) {
  PyObject *exemplars = NULL;
  for (Py_ssize_t i = 0; keywords != NULL && i < PyTuple_Size(keywords); i++) {
    if (PyUnicode_CompareWithASCIIString(PyTuple_GetItem(keywords, i), "exemplar") == 0) {
      exemplars = kept_in_interpreter(EXEMPLARS);
    }
  }
  if (exemplars == NULL) return call_own(self, name, arguments, count, keywords);
  PyObject *bound = Py_BuildValue("(nO)", (Py_ssize_t)((Target *)self)->metric, ((Target *)self)->owner);
  if (bound == NULL) return NULL;
  PyObject *result = call_with(exemplars, name, bound, arguments, count, keywords);
  Py_DECREF(bound);
  return result;
}

static inline PyObject *change(PyObject *self, const char *name, Operation operation, Otherwise otherwise,
                               PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  double number;
  if (is_one_number(arguments, count, keywords, &number) &&
      operation(((Target *)self)->metric, number) == BACKEND_STATUS_OK) {
    Py_INCREF(Py_None);
    return finish(Py_None);
  }
  return finish(otherwise(self, name, arguments, count, keywords));
}

static PyObject *counter_inc(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  if (count == 0 && keywords == NULL && metric_inc(((Target *)self)->metric, 1.0) == BACKEND_STATUS_OK) {
    Py_INCREF(Py_None);
    return finish(Py_None);
  }
  return change(self, "inc", metric_inc, count_otherwise, arguments, count, keywords);
}

static PyObject *observe(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  return change(self, "observe", metric_observe, count_otherwise, arguments, count, keywords);
}

/* A callable that has looked for a span so often in vain looks no more than once in so many nanoseconds: a program that
 * counts outside of spans should not pay for each call. _exemplars.py has the same numbers. */
enum { LOOKS_IN_VAIN = 16, LOOK_INTERVAL = 1000000 };

static int64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int is_time_to_look(const SamplingTarget *self, double number) {
  if (self->looks_in_vain >= LOOKS_IN_VAIN && nanoseconds() - self->last_look < LOOK_INTERVAL) return 0;
  return metric_takes_exemplar(self->target.metric, number);
}

/* Counts with the labels of the current span. Returns 1 if it has, 0 if there is no span, and -1 with an exception if
 * the call was interrupted. */
static int count_in_span(SamplingTarget *self, const char *name, double number) {
  PyObject *exemplars = kept_in_interpreter(EXEMPLARS);
  if (exemplars == NULL) return 0;
  PyObject *counted =
      PyObject_CallMethod(exemplars, "count_in_span", "snd", name, (Py_ssize_t)self->target.metric, number);
  if (counted == NULL) return -1;
  int has_counted = counted == Py_True;
  Py_DECREF(counted);
  if (has_counted) {
    self->looks_in_vain = 0;
  } else {
    if (self->looks_in_vain < LOOKS_IN_VAIN) self->looks_in_vain++;
    self->last_look = nanoseconds();
  }
  return has_counted;
}

/* As `change`, for a metric that keeps exemplars. `is_number` says whether `number` is what the arguments ask for. */
static inline PyObject *sample(PyObject *self, const char *name, Operation operation, int is_number, double number,
                               PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  if (is_number) {
    SamplingTarget *target = (SamplingTarget *)self;
    int has_counted = is_time_to_look(target, number) ? count_in_span(target, name, number) : 0;
    if (has_counted < 0) return NULL;
    if (has_counted || operation(target->target.metric, number) == BACKEND_STATUS_OK) {
      Py_INCREF(Py_None);
      return finish(Py_None);
    }
  }
  return finish(count_otherwise(self, name, arguments, count, keywords));
}

static PyObject *sampled_inc(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  double number = 1.0;
  int is_number = (count == 0 && keywords == NULL) || is_one_number(arguments, count, keywords, &number);
  return sample(self, "inc", metric_inc, is_number, number, arguments, count, keywords);
}

static PyObject *sampled_observe(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  double number = 0.0;
  int is_number = is_one_number(arguments, count, keywords, &number);
  return sample(self, "observe", metric_observe, is_number, number, arguments, count, keywords);
}

static PyObject *view_inc(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  return change(self, "inc", metric_inc, call_own, arguments, count, keywords);
}

static PyObject *view_dec(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  return change(self, "dec", metric_dec, call_own, arguments, count, keywords);
}

static PyObject *view_set(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  return change(self, "set", metric_set, call_own, arguments, count, keywords);
}

/* Returns the value of the label `name` among the keywords, or NULL. The first loop nearly always finds it, because both
 * names are interned. */
static inline PyObject *keyword(PyObject *name, PyObject *const *values, PyObject *keywords, Py_ssize_t count) {
  for (Py_ssize_t i = 0; i < count; i++) {
    if (PyTuple_GetItem(keywords, i) == name) return values[i];
  }
  for (Py_ssize_t i = 0; i < count; i++) {
    if (PyUnicode_Compare(PyTuple_GetItem(keywords, i), name) == 0) return values[i];
  }
  return NULL;
}

/* Returns the key of a child: its label values, sorted by label name. Returns NULL unless exactly the labels `names` are
 * given, as keywords or as a dict. (A subclass of dict may show other items to Python than to the C API.) */
static inline PyObject *child_key(PyObject *names, PyObject *const *arguments, Py_ssize_t count,
                                  PyObject *keywords) {
  Py_ssize_t label_count = PyTuple_Size(names);
  int is_dict = count == 1 && keywords == NULL && Py_TYPE(arguments[0]) == &PyDict_Type &&
                PyDict_Size(arguments[0]) == label_count;
  if (!is_dict && (count != 0 || keywords == NULL || PyTuple_Size(keywords) != label_count)) return NULL;
  PyObject *key = PyTuple_New(label_count);
  for (Py_ssize_t i = 0; key != NULL && i < label_count; i++) {
    PyObject *name = PyTuple_GetItem(names, i);
    PyObject *value = is_dict ? PyDict_GetItemWithError(arguments[0], name)
                              : keyword(name, arguments, keywords, label_count);
    if (value == NULL) {
      Py_CLEAR(key);
    } else {
      Py_INCREF(value);
      PyTuple_SetItem(key, i, value);
    }
  }
  return key;
}

/* Calls the function that makes a child, with the key and the labels as a dict: the one that was given, or a new one of
 * the keywords. */
static PyObject *make_child(PyObject *make, PyObject *key, PyObject *const *arguments, PyObject *keywords) {
  if (keywords == NULL) return PyObject_CallFunctionObjArgs(make, key, arguments[0], NULL);
  PyObject *given = PyDict_New();
  if (given == NULL) return NULL;
  PyObject *child = NULL;
  int status = 0;
  Py_ssize_t count = PyTuple_Size(keywords);
  for (Py_ssize_t i = 0; status == 0 && i < count; i++) {
    status = PyDict_SetItem(given, PyTuple_GetItem(keywords, i), arguments[i]);
  }
  if (status == 0) child = PyObject_CallFunctionObjArgs(make, key, given, NULL);
  Py_DECREF(given);
  return child;
}

/* Finds a child that exists, or has one made. If the labels are wrong, or the function that makes children leaves this
 * one to the method of the class by returning None, that method does the rest. */
static PyObject *labels(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  PyObject *keep = ((Target *)self)->keep;
  PyObject *key = child_key(PyTuple_GetItem(keep, 1), arguments, count, keywords);
  if (key != NULL) {
    PyObject *children = PyObject_GetAttr(PyTuple_GetItem(keep, 0), PyTuple_GetItem(keep, 2));
    PyObject *child = NULL;
    if (children != NULL && PyDict_Check(children)) {
      child = PyDict_GetItemWithError(children, key);
      Py_XINCREF(child);
      if (child == NULL && PyErr_Occurred() == NULL) {
        child = make_child(PyTuple_GetItem(keep, 3), key, arguments, keywords);
        if (child == NULL) {
          Py_DECREF(children);
          Py_DECREF(key);
          return finish(NULL);
        }
        if (child == Py_None) Py_CLEAR(child);
      }
    }
    Py_XDECREF(children);
    Py_DECREF(key);
    if (child != NULL) return finish(child);
  }
  PyErr_Clear();
  return finish(call_own(self, "labels", arguments, count, keywords));
}

#define CALLABLE(name, function, text) \
  { name, (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS, text }

static PyMethodDef counter_inc_method =
    CALLABLE("inc", counter_inc, "inc($self, /, value=1.0)\n--\n\nIncrements the value by the given amount.");
static PyMethodDef observe_method =
    CALLABLE("observe", observe, "observe($self, /, value)\n--\n\nObserve the given value.");
static PyMethodDef sampled_inc_method =
    CALLABLE("inc", sampled_inc, "inc($self, /, value=1.0, *, exemplar=None)\n--\n\n"
                                 "Increments the value by the given amount.");
static PyMethodDef sampled_observe_method =
    CALLABLE("observe", sampled_observe, "observe($self, /, value, *, exemplar=None)\n--\n\n"
                                         "Observe the given value.");
static PyMethodDef view_inc_method = CALLABLE("inc", view_inc, "inc($self, /, value)\n--\n\nAdds `value`.");
static PyMethodDef view_dec_method = CALLABLE("dec", view_dec, "dec($self, /, value)\n--\n\nSubtracts `value`.");
static PyMethodDef view_set_method = CALLABLE("set", view_set, "set($self, /, value)\n--\n\nSets to `value`.");
static PyMethodDef labels_method =
    CALLABLE("labels", labels, "labels($self, pytheus_labels_=None, /, **kwargs)\n--\n\n"
                               "Returns the child with these labels, and makes it at first use.");

/* `type` is one of the types of targets. */
static PyObject *new_target(PyObject *type, PyObject *owner, const Metric *metric, PyObject *keep) {
  Target *target = PyObject_GC_New(Target, (PyTypeObject *)type);
  if (target == NULL) return NULL;
  if (type == sampling_target_type) {
    ((SamplingTarget *)target)->looks_in_vain = 0;
    ((SamplingTarget *)target)->last_look = 0;
  }
  Py_INCREF(keep);
  Py_INCREF(owner);
  target->metric = metric;
  target->keep = keep;
  target->owner = owner;
  target->owned = NULL;
  PyObject_GC_Track(target);
  return (PyObject *)target;
}

static PyObject *new_callable(PyMethodDef *method, PyObject *type, PyObject *owner, const Metric *metric,
                              PyObject *keep) {
  PyObject *target = new_target(type, owner, metric, keep);
  if (target == NULL) return NULL;
  PyObject *callable = PyCFunction_NewEx(method, target, NULL);
  Py_DECREF(target);
  return callable;
}

/* Makes a callable from (owner, address of the metric, the object that keeps the metric alive). */
static PyObject *bind(PyMethodDef *method, PyObject *type, PyObject *arguments) {
  PyObject *owner, *address, *keep;
  if (!PyArg_UnpackTuple(arguments, method->ml_name, 3, 3, &owner, &address, &keep)) return NULL;
  const Metric *metric = PyLong_AsVoidPtr(address);
  if (metric == NULL) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the address of a metric is 0");
    return NULL;
  }
  return new_callable(method, type, owner, metric, keep);
}

static PyObject *bind_counter_inc(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&counter_inc_method, target_type, arguments);
}

static PyObject *bind_observe(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&observe_method, target_type, arguments);
}

static PyObject *bind_sampled_inc(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&sampled_inc_method, sampling_target_type, arguments);
}

static PyObject *bind_sampled_observe(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&sampled_observe_method, sampling_target_type, arguments);
}

static PyObject *bind_view_inc(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&view_inc_method, target_type, arguments);
}

static PyObject *bind_view_dec(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&view_dec_method, target_type, arguments);
}

static PyObject *bind_view_set(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&view_set_method, target_type, arguments);
}

/* Metrics with more labels are made in the ordinary way. */
enum { MOST_LABELS = 32 };

/* Returns the metric of a family with these label values, whatever has to be waited for. Returns NULL, without an
 * exception, if a value is not a plain str that a C string can hold, or if the engine refuses the metric. */
static Metric *find_metric(const MetricFamily *family, PyObject *values) {
  const char *texts[MOST_LABELS];
  Py_ssize_t count = PyTuple_Size(values);
  if (count > MOST_LABELS) return NULL;
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *value = PyTuple_GetItem(values, i);
    Py_ssize_t length;
    if (Py_TYPE(value) != &PyUnicode_Type) return NULL;
    texts[i] = PyUnicode_AsUTF8AndSize(value, &length);
    if (texts[i] == NULL) {
      /* A lone surrogate. */
      PyErr_Clear();
      return NULL;
    }
    if (strlen(texts[i]) != (size_t)length) return NULL;
  }
  Metric *metric = NULL;
  BackendError *error = NULL;
  if (released_metric_new(family, texts, (size_t)count, &metric, &error) == BACKEND_STATUS_OK) return metric;
  backend_error_free(error);
  return NULL;
}

/* Makes the target of the callables of a metric that it finds and owns, from (owner, address of the family, tuple of
 * the label values, the object that keeps the family alive). Returns None if `find_metric` finds no metric. */
static PyObject *new_owning_target(PyObject *type, PyObject *const *arguments, Py_ssize_t count) {
  if (count != 4 || !PyTuple_Check(arguments[2])) {
    PyErr_SetString(PyExc_TypeError, "expected an owner, an address, a tuple and an object");
    return NULL;
  }
  const MetricFamily *family = PyLong_AsVoidPtr(arguments[1]);
  if (family == NULL && PyErr_Occurred()) return NULL;
  Metric *metric = find_metric(family, arguments[2]);
  if (metric == NULL) {
    Py_INCREF(Py_None);
    return Py_None;
  }
  PyObject *target = new_target(type, arguments[0], metric, arguments[3]);
  if (target == NULL) {
    metric_free(metric);
  } else {
    ((Target *)target)->owned = metric;
  }
  return target;
}

/* Returns the callables of a child as a tuple. Their `__self__` owns the metric. */
static PyObject *child(PyMethodDef *const *methods, Py_ssize_t method_count, PyObject *type,
                       PyObject *const *arguments, Py_ssize_t count) {
  PyObject *target = new_owning_target(type, arguments, count);
  if (target == NULL || target == Py_None) return target;
  PyObject *callables = PyTuple_New(method_count);
  for (Py_ssize_t i = 0; callables != NULL && i < method_count; i++) {
    PyObject *callable = PyCFunction_NewEx(methods[i], target, NULL);
    if (callable == NULL) {
      Py_CLEAR(callables);
    } else {
      PyTuple_SetItem(callables, i, callable);
    }
  }
  Py_DECREF(target);
  return callables;
}

static PyObject *counter_child(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  static PyMethodDef *const methods[] = {&counter_inc_method};
  (void)module;
  return child(methods, 1, target_type, arguments, count);
}

static PyObject *observe_child(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  static PyMethodDef *const methods[] = {&observe_method};
  (void)module;
  return child(methods, 1, target_type, arguments, count);
}

/* For a family that keeps exemplars. */
static PyObject *sampled_counter_child(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  static PyMethodDef *const methods[] = {&sampled_inc_method};
  (void)module;
  return child(methods, 1, sampling_target_type, arguments, count);
}

static PyObject *sampled_observe_child(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  static PyMethodDef *const methods[] = {&sampled_observe_method};
  (void)module;
  return child(methods, 1, sampling_target_type, arguments, count);
}

/* For the backend object of a gauge: inc, dec and set. */
static PyObject *gauge_child(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  static PyMethodDef *const methods[] = {&view_inc_method, &view_dec_method, &view_set_method};
  (void)module;
  return child(methods, 3, target_type, arguments, count);
}

/* Returns the address of the handle that an owner or the `__self__` of a callable has. */
static PyObject *address_of(PyObject *module, PyObject *owner) {
  (void)module;
  return PyObject_GetAttrString(owner, "address");
}

/* Makes a callable from (owner, (holder of the children, tuple of the sorted label names, name of its attribute,
 * function that makes a child)). */
static PyObject *bind_labels(PyObject *module, PyObject *arguments) {
  PyObject *owner, *keep;
  (void)module;
  if (!PyArg_ParseTuple(arguments, "OO!", &owner, &PyTuple_Type, &keep)) return NULL;
  return new_callable(&labels_method, target_type, owner, NULL, keep);
}

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL

static PyMethodDef module_functions[] = {
    {"counter_inc", bind_counter_inc, METH_VARARGS, NULL},
    {"observe", bind_observe, METH_VARARGS, NULL},
    {"sampled_inc", bind_sampled_inc, METH_VARARGS, NULL},
    {"sampled_observe", bind_sampled_observe, METH_VARARGS, NULL},
    {"view_inc", bind_view_inc, METH_VARARGS, NULL},
    {"view_dec", bind_view_dec, METH_VARARGS, NULL},
    {"view_set", bind_view_set, METH_VARARGS, NULL},
    {"labels", bind_labels, METH_VARARGS, NULL},
    {"own_backend", own_backend, METH_O, NULL},
    {"own_family", own_family, METH_O, NULL},
    {"own_metric", own_metric, METH_O, NULL},
    {"take_text", take_text, METH_VARARGS, NULL},
    {"counter_child", FAST(counter_child), NULL},
    {"observe_child", FAST(observe_child), NULL},
    {"sampled_counter_child", FAST(sampled_counter_child), NULL},
    {"sampled_observe_child", FAST(sampled_observe_child), NULL},
    {"gauge_child", FAST(gauge_child), NULL},
    {"address_of", address_of, METH_O, NULL},
    {"deliver_logs_by", deliver_logs_by, METH_O, NULL},
    {"exemplars_by", exemplars_by, METH_O, NULL},
    {"is_main_interpreter", is_main_interpreter, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "_callables", NULL, -1, module_functions, NULL, NULL, NULL, NULL,
};

/* Adds the functions of client_methods.c. */
static int add_client_functions(PyObject *module);

PyMODINIT_FUNC PyInit__callables(void) {
  static PyMemberDef target_members[] = {
      {"address", T_PYSSIZET, offsetof(Target, metric), READONLY, NULL},
      {NULL, 0, 0, 0, NULL},
  };
  static PyMemberDef owner_members[] = {
      {"address", T_PYSSIZET, offsetof(Owner, handle), READONLY, NULL},
      {NULL, 0, 0, 0, NULL},
  };
  static PyType_Slot slots[] = {
      {Py_tp_members, target_members},
      {Py_tp_traverse, (void *)target_traverse},
      {Py_tp_dealloc, (void *)target_dealloc},
      {0, NULL},
  };
  static PyType_Spec spec = {
      "pytheus_backend_rs._callables.Target", sizeof(Target), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots,
  };
  static PyType_Spec sampling_spec = {
      "pytheus_backend_rs._callables.SamplingTarget", sizeof(SamplingTarget), 0,
      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots,
  };
  static PyType_Slot owner_slots[] = {
      {Py_tp_members, owner_members},
      {Py_tp_dealloc, (void *)owner_dealloc},
      {0, NULL},
  };
  static PyType_Spec owner_spec = {
      "pytheus_backend_rs._callables.Owner", sizeof(Owner), 0, Py_TPFLAGS_DEFAULT, owner_slots,
  };
  logs_wait = backend_log_waiting();
  owner_type = PyType_FromSpec(&owner_spec);
  if (owner_type == NULL) return NULL;
  target_type = PyType_FromSpec(&spec);
  sampling_target_type = PyType_FromSpec(&sampling_spec);
  if (target_type == NULL || sampling_target_type == NULL) return NULL;
  PyObject *module = PyModule_Create(&module_definition);
  if (module != NULL && add_client_functions(module) != 0) Py_CLEAR(module);
  return module;
}

/* The callables for prometheus_client: `inc`, `dec`, `set`, `observe` and `labels` on the instances of its classes.
 * Calls that are not plain, and calls on a metric that another process has removed, go to the method of the class. It
 * makes a removed metric again.
 *
 * build_native.py puts this file behind native_methods.c, whose objects it uses.
 */

static inline BackendStatus inc_if_live(const Metric *metric, double amount) {
  return metric_is_live(metric) ? metric_inc(metric, amount) : BACKEND_STATUS_NOT_FOUND;
}

static inline BackendStatus dec_if_live(const Metric *metric, double amount) {
  return metric_is_live(metric) ? metric_dec(metric, amount) : BACKEND_STATUS_NOT_FOUND;
}

static inline BackendStatus set_if_live(const Metric *metric, double value) {
  return metric_is_live(metric) ? metric_set(metric, value) : BACKEND_STATUS_NOT_FOUND;
}

/* NaN is left to prometheus_client, which adds it to the sum and to no bucket. */
static inline BackendStatus observe_if_live(const Metric *metric, double amount) {
  if (amount != amount) return BACKEND_STATUS_INVALID_ARGUMENT;
  return metric_is_live(metric) ? metric_observe(metric, amount) : BACKEND_STATUS_NOT_FOUND;
}

/* Tells whether the arguments are one plain number, by position or by the name of the parameter. */
static inline int is_client_number(PyObject *const *arguments, Py_ssize_t count, PyObject *keywords,
                                   const char *parameter, double *number) {
  if (keywords != NULL) {
    if (count != 0 || PyTuple_Size(keywords) != 1) return 0;
    if (PyUnicode_CompareWithASCIIString(PyTuple_GetItem(keywords, 0), parameter) != 0) return 0;
    count = 1;
  }
  return is_one_number(arguments, count, NULL, number);
}

static inline PyObject *client_change(PyObject *self, const char *name, const char *parameter, Operation operation,
                                      PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  double number;
  if (is_client_number(arguments, count, keywords, parameter, &number) &&
      operation(((Target *)self)->metric, number) == BACKEND_STATUS_OK) {
    Py_INCREF(Py_None);
    return finish(Py_None);
  }
  return finish(call_own(self, name, arguments, count, keywords));
}

/* As `client_change`, for a method whose amount is 1 if none is given. */
static inline PyObject *client_step(PyObject *self, const char *name, Operation operation, PyObject *const *arguments,
                                    Py_ssize_t count, PyObject *keywords) {
  if (count == 0 && keywords == NULL && operation(((Target *)self)->metric, 1.0) == BACKEND_STATUS_OK) {
    Py_INCREF(Py_None);
    return finish(Py_None);
  }
  return client_change(self, name, "amount", operation, arguments, count, keywords);
}

static PyObject *client_inc(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  return client_step(self, "inc", inc_if_live, arguments, count, keywords);
}

static PyObject *client_dec(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  return client_step(self, "dec", dec_if_live, arguments, count, keywords);
}

static PyObject *client_set(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  return client_change(self, "set", "value", set_if_live, arguments, count, keywords);
}

static PyObject *client_observe(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  return client_change(self, "observe", "amount", observe_if_live, arguments, count, keywords);
}

/* Returns the key of a child of prometheus_client: its label values in the order of `names`. Returns NULL unless all are
 * given, by position or as keywords, and are plain str: those of other types are converted by the method of the class. */
static inline PyObject *text_key(PyObject *names, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  Py_ssize_t label_count = PyTuple_Size(names);
  if (keywords == NULL ? count != label_count : count != 0 || PyTuple_Size(keywords) != label_count) return NULL;
  PyObject *key = PyTuple_New(label_count);
  for (Py_ssize_t i = 0; key != NULL && i < label_count; i++) {
    PyObject *value = keywords == NULL ? arguments[i]
                                       : keyword(PyTuple_GetItem(names, i), arguments, keywords, label_count);
    if (value == NULL || Py_TYPE(value) != &PyUnicode_Type) {
      Py_CLEAR(key);
    } else {
      Py_INCREF(value);
      PyTuple_SetItem(key, i, value);
    }
  }
  return key;
}

/* Finds a child of prometheus_client that exists. The method of the class does the rest. */
static PyObject *client_labels(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  PyObject *keep = ((Target *)self)->keep;
  PyObject *key = text_key(PyTuple_GetItem(keep, 0), arguments, count, keywords);
  if (key != NULL) {
    PyObject *children = PyObject_GetAttr(((Target *)self)->owner, PyTuple_GetItem(keep, 1));
    PyObject *child = NULL;
    if (children != NULL && PyDict_Check(children)) {
      child = PyDict_GetItemWithError(children, key);
      Py_XINCREF(child);
    }
    Py_XDECREF(children);
    Py_DECREF(key);
    if (child != NULL) return finish(child);
  }
  PyErr_Clear();
  return finish(call_own(self, "labels", arguments, count, keywords));
}

static PyMethodDef client_counter_inc_method = CALLABLE(
    "inc", client_inc, "inc($self, /, amount=1, exemplar=None)\n--\n\nIncrement counter by the given amount.");
static PyMethodDef client_gauge_inc_method =
    CALLABLE("inc", client_inc, "inc($self, /, amount=1)\n--\n\nIncrement gauge by the given amount.");
static PyMethodDef client_gauge_dec_method =
    CALLABLE("dec", client_dec, "dec($self, /, amount=1)\n--\n\nDecrement gauge by the given amount.");
static PyMethodDef client_gauge_set_method =
    CALLABLE("set", client_set, "set($self, /, value)\n--\n\nSet gauge to the given value.");
static PyMethodDef client_summary_observe_method =
    CALLABLE("observe", client_observe, "observe($self, /, amount)\n--\n\nObserve the given amount.");
static PyMethodDef client_histogram_observe_method = CALLABLE(
    "observe", client_observe, "observe($self, /, amount, exemplar=None)\n--\n\nObserve the given amount.");
static PyMethodDef client_labels_method =
    CALLABLE("labels", client_labels, "labels($self, /, *labelvalues, **labelkwargs)\n--\n\n"
                                      "Return the child for the given labelset.");

static PyObject *bind_client_counter_inc(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&client_counter_inc_method, target_type, arguments);
}

static PyObject *bind_client_gauge_inc(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&client_gauge_inc_method, target_type, arguments);
}

static PyObject *bind_client_gauge_dec(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&client_gauge_dec_method, target_type, arguments);
}

static PyObject *bind_client_gauge_set(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&client_gauge_set_method, target_type, arguments);
}

static PyObject *bind_client_summary_observe(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&client_summary_observe_method, target_type, arguments);
}

static PyObject *bind_client_histogram_observe(PyObject *module, PyObject *arguments) {
  (void)module;
  return bind(&client_histogram_observe_method, target_type, arguments);
}

/* Makes a callable from (owner, (tuple of the label names, name of the attribute in which the owner has its
 * children)). */
static PyObject *bind_client_labels(PyObject *module, PyObject *arguments) {
  PyObject *owner, *keep;
  (void)module;
  if (!PyArg_ParseTuple(arguments, "OO!", &owner, &PyTuple_Type, &keep)) return NULL;
  return new_callable(&client_labels_method, target_type, owner, NULL, keep);
}

static PyMethodDef client_functions[] = {
    {"client_counter_inc", bind_client_counter_inc, METH_VARARGS, NULL},
    {"client_gauge_inc", bind_client_gauge_inc, METH_VARARGS, NULL},
    {"client_gauge_dec", bind_client_gauge_dec, METH_VARARGS, NULL},
    {"client_gauge_set", bind_client_gauge_set, METH_VARARGS, NULL},
    {"client_summary_observe", bind_client_summary_observe, METH_VARARGS, NULL},
    {"client_histogram_observe", bind_client_histogram_observe, METH_VARARGS, NULL},
    {"client_labels", bind_client_labels, METH_VARARGS, NULL},
    {"read_series", read_series, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int add_client_functions(PyObject *module) { return PyModule_AddFunctions(module, client_functions); }

/* The series of a snapshot as Python objects: their values, or the lines of a scrape as prometheus_client spells them.
 * prometheus_client makes several objects for each line; this makes one string for each series.
 *
 * build_native.py puts this file before native_methods.c; client_methods.c lists its function. It uses the stable ABI
 * only.
 */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* In the stable ABI by name since 3.10, and exported by every CPython since 3.3. */
PyAPI_FUNC(const char *) PyUnicode_AsUTF8AndSize(PyObject *text, Py_ssize_t *length);

/* Text that grows. `data` is NULL at first; `free_buffer` frees it. */
typedef struct {
  char *data;
  size_t length, capacity;
} Buffer;

static void free_buffer(Buffer *buffer) { PyMem_Free(buffer->data); }

/* Makes room for this many bytes more. Returns 0, with an exception, if there is no memory. */
static int reserve(Buffer *buffer, size_t more) {
  if (buffer->capacity - buffer->length >= more) return 1;
  size_t capacity = 2 * buffer->capacity + more + 256;
  char *data = PyMem_Realloc(buffer->data, capacity);
  if (data == NULL) {
    PyErr_NoMemory();
    return 0;
  }
  buffer->data = data;
  buffer->capacity = capacity;
  return 1;
}

static inline int append(Buffer *buffer, const char *text, size_t length) {
  if (length == 0) return 1;
  if (!reserve(buffer, length)) return 0;
  memcpy(buffer->data + buffer->length, text, length);
  buffer->length += length;
  return 1;
}

/* The numbers below this are the whole ones that prometheus_client spells without an exponent. */
static const double FIRST_WITH_EXPONENT = 1e6;

/* Appends a number as prometheus_client spells it: `1.0`, `1e+06`, `+Inf`. */
static int append_number(Buffer *buffer, double number) {
  char digits[32];
  if (number >= 0 && number < FIRST_WITH_EXPONENT && !signbit(number) && number == (double)(uint32_t)number) {
    char *end = digits + sizeof digits, *begin = end;
    *--begin = '0';
    *--begin = '.';
    uint32_t whole = (uint32_t)number;
    do {
      *--begin = (char)('0' + whole % 10);
      whole /= 10;
    } while (whole > 0);
    return append(buffer, begin, (size_t)(end - begin));
  }
  if (isnan(number)) return append(buffer, "NaN", 3);
  if (isinf(number)) return append(buffer, number > 0 ? "+Inf" : "-Inf", 4);
  char *shortest = PyOS_double_to_string(number, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
  if (shortest == NULL) return 0;
  char *dot = strchr(shortest, '.');
  int done;
  if (number > 0 && dot != NULL && dot - shortest > 6) {
    int exponent = (int)(dot - shortest) - 1;
    /* The dot moves behind the first digit. */
    memmove(shortest + 2, shortest + 1, (size_t)exponent);
    shortest[1] = '.';
    size_t length = strlen(shortest);
    while (length > 0 && (shortest[length - 1] == '0' || shortest[length - 1] == '.')) length--;
    int suffix = snprintf(digits, sizeof digits, "e+%02d", exponent);
    done = append(buffer, shortest, length) && append(buffer, digits, (size_t)suffix);
  } else {
    done = append(buffer, shortest, strlen(shortest));
  }
  PyMem_Free(shortest);
  return done;
}

/* Appends the JSON text of a label value, from behind its first quote, as a scrape has it. Returns what follows its last
 * quote; NULL if it has a character that JSON names by its number, or (with an exception) if there is no memory. */
static const char *append_value(Buffer *buffer, const char *json) {
  for (;;) {
    size_t plain = strcspn(json, "\"\\");
    if (!append(buffer, json, plain)) return NULL;
    json += plain;
    if (*json == '"') return json + 1;
    if (json[0] == '\0') return NULL;
    switch (json[1]) {
      case '"':
      case '\\':
      case 'n':
        if (!append(buffer, json, 2)) return NULL;
        break;
      case 't':
        if (!append(buffer, "\t", 1)) return NULL;
        break;
      case 'r':
        if (!append(buffer, "\r", 1)) return NULL;
        break;
      default:
        return NULL;
    }
    json += 2;
  }
}

/* Appends labels JSON as a scrape has labels, without braces: `a="x",b="y"`. Sets `*split` to the offset at which
 * the label `extra` sorts. Returns 0 if a name needs quotes, or a value has an escape that `append_value` does not know. */
static int append_labels(Buffer *buffer, const char *json, const char *extra, size_t *split) {
  int is_split = 0;
  if (*json++ != '{') return 0;
  while (*json != '}') {
    if (*json == ',') json++;
    if (*json++ != '"') return 0;
    size_t length = strspn(json, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    if (length == 0 || json[length] != '"' || (json[0] >= '0' && json[0] <= '9')) return 0;
    int order = strncmp(json, extra, length);
    if (!is_split && (order > 0 || (order == 0 && strlen(extra) < length))) {
      *split = buffer->length;
      is_split = 1;
    }
    if (buffer->length > 0 && !append(buffer, ",", 1)) return 0;
    if (!append(buffer, json, length) || !append(buffer, "=\"", 2)) return 0;
    json += length + 1;
    if (json[0] != ':' || json[1] != '"') return 0;
    json = append_value(buffer, json + 2);
    if (json == NULL || !append(buffer, "\"", 1)) return 0;
  }
  if (!is_split) *split = buffer->length;
  return 1;
}

/* What `read_series` needs for one series after the other. */
typedef struct {
  Buffer labels, lines, created;
} Texts;

/* Appends one line: the name of the sample, the labels with `extra` at `split`, and a value. */
static int append_sample(Buffer *lines, PyObject *name_text, const Buffer *labels, size_t split, const char *extra,
                         size_t extra_length, double value) {
  Py_ssize_t name_length;
  const char *name = PyUnicode_AsUTF8AndSize(name_text, &name_length);
  if (name == NULL || !append(lines, name, (size_t)name_length)) return 0;
  if (labels->length > 0 || extra_length > 0) {
    size_t behind = labels->length - split;
    /* The comma before the label behind the extra one is part of the labels, unless that is the first. */
    int needs_comma = behind > 0 && split == 0 && extra_length > 0;
    if (!append(lines, "{", 1) || !append(lines, labels->data, split)) return 0;
    if (extra_length > 0 && split > 0 && !append(lines, ",", 1)) return 0;
    if (!append(lines, extra, extra_length) || (needs_comma && !append(lines, ",", 1))) return 0;
    if (!append(lines, labels->data + split, behind) || !append(lines, "}", 1)) return 0;
  }
  return append(lines, " ", 1) && append_number(lines, value) && append(lines, "\n", 1);
}

/* Appends the line of one value. `part` is (index of the value, name of the sample, text of the extra label). */
static int append_line(Texts *texts, size_t split, const MetricsSeries *series, PyObject *part) {
  size_t index = PyLong_AsSize_t(PyTuple_GetItem(part, 0));
  Py_ssize_t extra_length;
  const char *extra = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(part, 2), &extra_length);
  if (extra == NULL) return 0;
  if (index >= series->value_count) {
    PyErr_SetString(PyExc_IndexError, "the series has no such value");
    return 0;
  }
  return append_sample(&texts->lines, PyTuple_GetItem(part, 1), &texts->labels, split, extra, (size_t)extra_length,
                       series->values[index]);
}

static PyObject *text_of(const Buffer *buffer) {
  return PyUnicode_FromStringAndSize(buffer->length == 0 ? "" : buffer->data, (Py_ssize_t)buffer->length);
}

static PyObject *list_of(const double *values, size_t count) {
  PyObject *list = PyList_New((Py_ssize_t)count);
  for (size_t i = 0; list != NULL && i < count; i++) {
    PyObject *value = PyFloat_FromDouble(values[i]);
    if (value == NULL) {
      Py_CLEAR(list);
    } else {
      PyList_SetItem(list, (Py_ssize_t)i, value);
    }
  }
  return list;
}

/* Returns a series as a tuple: see `read_series`. */
static PyObject *series_entry(Texts *texts, const MetricsSeries *series, double created, PyObject *layout) {
  texts->labels.length = texts->lines.length = texts->created.length = 0;
  if (layout != Py_None) {
    PyObject *parts = PyTuple_GetItem(layout, 1), *created_name = PyTuple_GetItem(layout, 2);
    const char *extra = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(layout, 0), NULL);
    size_t split = 0;
    if (extra == NULL) return NULL;
    if (append_labels(&texts->labels, series->labels, extra, &split)) {
      Py_ssize_t count = PyTuple_Size(parts);
      for (Py_ssize_t i = 0; i < count; i++) {
        if (!append_line(texts, split, series, PyTuple_GetItem(parts, i))) return NULL;
      }
      if (created_name != Py_None && created != 0 &&
          !append_sample(&texts->created, created_name, &texts->labels, split, "", 0, created)) {
        return NULL;
      }
      return Py_BuildValue("(sdNNN)", series->labels, created, text_of(&texts->labels), text_of(&texts->lines),
                           text_of(&texts->created));
    }
    if (PyErr_Occurred()) return NULL;
  }
  PyObject *values = list_of(series->values, series->value_count);
  return values == NULL ? NULL : Py_BuildValue("(sdN)", series->labels, created, values);
}

/* Walks a snapshot, from (its address, a tuple with the layout of each family), and returns a list with a list of the
 * series of each family. A layout is None, or (name of an extra label, tuple of the parts of `append_line`, None or the
 * name of the sample that says when the series began). A series is (labels JSON, when it began, list of the values)
 * without a layout, or if its labels are not plain; otherwise (labels JSON, when it began, labels as text, lines as
 * prometheus_client spells them, the line that says when it began or an empty text). */
static PyObject *read_series(PyObject *module, PyObject *arguments) {
  PyObject *address, *layouts;
  (void)module;
  if (!PyArg_ParseTuple(arguments, "OO!", &address, &PyTuple_Type, &layouts)) return NULL;
  MetricsSnapshot *snapshot = PyLong_AsVoidPtr(address);
  if (snapshot == NULL && PyErr_Occurred()) return NULL;
  Py_ssize_t count = PyTuple_Size(layouts);
  PyObject *families = PyList_New(count);
  for (Py_ssize_t i = 0; families != NULL && i < count; i++) {
    PyObject *list = PyList_New(0);
    if (list == NULL) {
      Py_CLEAR(families);
    } else {
      PyList_SetItem(families, i, list);
    }
  }
  Texts texts = {{NULL, 0, 0}, {NULL, 0, 0}, {NULL, 0, 0}};
  MetricsSeries series;
  while (families != NULL && metrics_snapshot_next(snapshot, &series) == BACKEND_STATUS_OK) {
    double created = 0;
    if (series.family_index >= (size_t)count) continue;
    metrics_snapshot_created(snapshot, &created, NULL);
    PyObject *layout = PyTuple_GetItem(layouts, (Py_ssize_t)series.family_index);
    PyObject *entry = series_entry(&texts, &series, created, layout);
    PyObject *list = PyList_GetItem(families, (Py_ssize_t)series.family_index);
    if (entry == NULL || PyList_Append(list, entry) != 0) Py_CLEAR(families);
    Py_XDECREF(entry);
  }
  free_buffer(&texts.labels);
  free_buffer(&texts.lines);
  free_buffer(&texts.created);
  return families;
}

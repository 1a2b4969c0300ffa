// Counts orders in a shop through cgo, and prints what Prometheus would scrape.
//
//	go run .                               keeps the values in this process
//	go run . redis://127.0.0.1:6379        keeps them on a Redis server, shared with other processes
package main

// #cgo LDFLAGS: -lpytheus_backend_rs
// #include <pytheus_backend_rs.h>
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"log"
	"os"
	"unsafe"
)

func check(status C.BackendStatus, err *C.BackendError) {
	if status != C.BACKEND_STATUS_OK {
		log.Fatalf("%s: %s", C.GoString(C.backend_status_name(status)), C.GoString(C.backend_error_message(err)))
	}
}

// cStrings returns an array of C strings, in memory of C, which the program keeps until it ends.
func cStrings(texts ...string) **C.char {
	array := (**C.char)(C.malloc(C.size_t(len(texts)+1) * C.size_t(unsafe.Sizeof(uintptr(0)))))
	for i, text := range texts {
		unsafe.Slice(array, len(texts))[i] = C.CString(text)
	}
	return array
}

func declare(backend *C.Backend, metricType C.int32_t, name, help string, labels ...string) *C.MetricFamily {
	options := C.MetricFamilyOptions{metric_type: metricType, name: C.CString(name), help: C.CString(help),
		label_names: cStrings(labels...), label_count: C.size_t(len(labels))}
	options.size = C.size_t(unsafe.Sizeof(options))
	var family *C.MetricFamily
	var err *C.BackendError
	check(C.metric_family_new(backend, &options, &family, &err), err)
	return family
}

// with returns the metric of one label set. Ask for it once and keep it: counting with it looks nothing up.
func with(family *C.MetricFamily, labels ...string) *C.Metric {
	var metric *C.Metric
	var err *C.BackendError
	check(C.metric_new(family, cStrings(labels...), C.size_t(len(labels)), &metric, &err), err)
	return metric
}

func main() {
	url := append(os.Args, "memory:")[1]
	var backend *C.Backend
	var err *C.BackendError
	check(C.backend_new(C.CString(url), &backend, &err), err)
	defer C.backend_free(backend) // sends what is pending

	orders := declare(backend, C.METRIC_TYPE_COUNTER, "shop_orders_total", "Orders, by the way they were paid.", "payment")
	durations := with(declare(backend, C.METRIC_TYPE_SUMMARY, "shop_order_seconds", "How long an order took."))
	card, cash := with(orders, "card"), with(orders, "cash")
	for i, seconds := range []C.double{0.25, 0.0625, 3, 0.5} {
		C.metric_inc([]*C.Metric{card, card, card, cash}[i], 1)
		C.metric_observe(durations, seconds)
	}

	var text *C.char
	check(C.metrics_collect(backend, &text, nil, &err), err)
	fmt.Print(C.GoString(text))
	C.backend_string_free(text)
}

// Runs a command line in a VM of its own, by libera and cgo.
//
//	go run run.go python 'python -V'
package main

/*
#cgo pkg-config: era
#include <stdlib.h>
#include <era/era.h>
*/
import "C"

import (
	"fmt"
	"os"
	"unsafe"
)

func check(r C.int, err *C.struct_era_error) {
	if r < 0 {
		fmt.Fprintf(os.Stderr, "%s: %s\n", C.GoString(&err.code[0]), C.GoString(&err.message[0]))
		os.Exit(1)
	}
}

func main() {
	var err C.struct_era_error
	var era *C.struct_era
	var spec *C.struct_era_vm_spec
	var vm *C.struct_era_vm
	var run *C.struct_era_run_spec
	var result *C.struct_era_result

	language, command := C.CString(os.Args[1]), C.CString(os.Args[2])
	defer C.free(unsafe.Pointer(language))
	defer C.free(unsafe.Pointer(command))

	// NULL, when the variable is not set, means the default state directory.
	name := C.CString("AGENT_STATE_DIR")
	defer C.free(unsafe.Pointer(name))
	check(C.era_open(C.getenv(name), &era, &err), &err)
	defer C.era_close(era)
	check(C.era_vm_spec_new(language, &spec, &err), &err)
	defer C.era_vm_spec_free(spec)
	check(C.era_run_spec_new_shell(command, &run, &err), &err)
	defer C.era_run_spec_free(run)
	check(C.era_vm_create(era, spec, &vm, &err), &err)
	defer C.era_vm_free(vm)
	defer C.era_vm_clean(era, C.era_vm_id(vm), false, nil)
	check(C.era_vm_run(era, C.era_vm_id(vm), run, &result, &err), &err)
	defer C.era_result_free(result)

	out, _ := os.ReadFile(C.GoString(C.era_result_stdout_path(result)))
	os.Stdout.Write(out)
	fmt.Println(C.GoString(C.era_result_verdict(result)), C.era_result_exit_code(result))
}

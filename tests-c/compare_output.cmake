# Runs a program and compares what it prints with a checked-in file.
#
# usage: cmake -DCOMMAND=program;argument... -DEXPECTED=file -P compare_output.cmake
execute_process(COMMAND ${COMMAND} RESULT_VARIABLE status OUTPUT_VARIABLE printed ERROR_VARIABLE errors)
file(READ "${EXPECTED}" expected)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${COMMAND} returned ${status}:\n${errors}")
endif()
if(NOT printed STREQUAL expected)
  message(FATAL_ERROR "${COMMAND} printed\n${printed}\nexpected (${EXPECTED}):\n${expected}")
endif()

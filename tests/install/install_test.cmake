# Installs the libraries of BUILD into a prefix of its own, builds the consumer against nothing but that, and runs it.
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}: ${result}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

set(work "${BUILD}/tests/install")
set(prefix "${work}/prefix")
file(REMOVE_RECURSE "${prefix}" "${work}/consumer")

run("${CMAKE_COMMAND}" --install "${BUILD}" --component library --prefix "${prefix}")
file(GLOB_RECURSE installed "${prefix}/*")
foreach(file IN LISTS installed)
  file(READ "${file}" text LIMIT 200000)
  if(file MATCHES "[.](cmake|h)$" AND text MATCHES "${SOURCE}/")
    message(FATAL_ERROR "${file} names the source tree")
  endif()
endforeach()

run("${CMAKE_COMMAND}" -G Ninja -S "${CMAKE_CURRENT_LIST_DIR}/consumer" -B "${work}/consumer"
  "-DCMAKE_PREFIX_PATH=${prefix}" "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}"
  "-DCMAKE_CXX_FLAGS=${FLAGS}")
run("${CMAKE_COMMAND}" --build "${work}/consumer")
run("${work}/consumer/consumer")
if(NOT output MATCHES "^a step of tinyllama-1.1b has [1-9][0-9]* storages\n$")
  message(FATAL_ERROR "the consumer said: ${output}")
endif()
message("${output}")

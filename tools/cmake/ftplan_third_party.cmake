# Every third-party package, in one place, with what to do when it is missing.

find_package(PkgConfig REQUIRED)

macro(ftplan_need package hint)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "${package} is missing: run tools/setup, or install ${hint}")
  endif()
endmacro()

# ftplan_pkg(<target> <pkg-config module> <Debian package>)
function(ftplan_pkg target module hint)
  pkg_check_modules(${target} QUIET IMPORTED_TARGET GLOBAL ${module})
  if(NOT ${target}_FOUND)
    message(FATAL_ERROR "${module} is missing: run tools/setup, or install ${hint}")
  endif()
  add_library(ftplan::${target} ALIAS PkgConfig::${target})
endfunction()

ftplan_need(nlohmann_json nlohmann-json3-dev)
ftplan_need(CLI11 libcli11-dev)
ftplan_need(Threads g++)
ftplan_pkg(xxhash libxxhash libxxhash-dev)
ftplan_pkg(pcre2 libpcre2-8 libpcre2-dev)
ftplan_pkg(sentencepiece sentencepiece libsentencepiece-dev)
ftplan_pkg(yaml_cpp yaml-cpp libyaml-cpp-dev)
# Draws the layout; without it `report --graph` says so. It loses memory of its own, which a leak sanitizer would report.
set(graphviz_FOUND OFF)
if(NOT FTPLAN_SANITIZE)
  pkg_check_modules(graphviz QUIET IMPORTED_TARGET GLOBAL libgvc libcgraph)
endif()
set(graphviz_FOUND "${graphviz_FOUND}" CACHE INTERNAL "what an installed package asks for too")
if(graphviz_FOUND)
  add_library(ftplan::graphviz ALIAS PkgConfig::graphviz)
else()
  message(STATUS "Graphviz is missing: building without report --graph (tools/setup tests installs it)")
endif()
if(FTPLAN_TESTS)
  ftplan_need(GTest libgtest-dev)
endif()

# LibTorch from the wheel, with targets of our own: its CMake package insists on a CUDA toolkit.
set(FTPLAN_HAVE_LIBTORCH OFF)
if(FTPLAN_LIBTORCH AND EXISTS "${FTPLAN_LIBTORCH}/torch/lib/libtorch_cpu.so")
  set(FTPLAN_HAVE_LIBTORCH ON)
  set(torch "${FTPLAN_LIBTORCH}/torch")
  set(cuda_runtime "${FTPLAN_LIBTORCH}/nvidia/cu13/lib")
  foreach(library torch_cpu c10)
    add_library(ftplan_${library} SHARED IMPORTED)
    set_target_properties(ftplan_${library} PROPERTIES
      IMPORTED_LOCATION "${torch}/lib/lib${library}.so"
      INTERFACE_INCLUDE_DIRECTORIES "${torch}/include;${torch}/include/torch/csrc/api/include")
  endforeach()
  add_library(ftplan_libtorch INTERFACE)
  add_library(ftplan::libtorch ALIAS ftplan_libtorch)
  # Its own OpenMP runtime: a second one in the process would start a second set of threads.
  target_link_libraries(ftplan_libtorch INTERFACE ftplan_torch_cpu ftplan_c10 "${torch}/lib/libgomp.so.1")
  # The wheel's libraries name the CUDA runtime even where there is no GPU.
  target_link_options(ftplan_libtorch INTERFACE
    "LINKER:--no-as-needed" "LINKER:-rpath-link,${cuda_runtime}" "LINKER:-rpath,${cuda_runtime}")
else()
  message(STATUS "LibTorch is missing: building without run, eval, generate and calibrate (tools/setup worker installs it)")
endif()

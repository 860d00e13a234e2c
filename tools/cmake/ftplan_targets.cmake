# Targets, warnings and sanitizers, said once for every folder.

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE}")
endif()

add_library(ftplan_warnings INTERFACE)
add_library(ftplan::warnings ALIAS ftplan_warnings)
target_compile_options(ftplan_warnings INTERFACE
  # Designated initialisers leave out members on purpose.
  -Wall -Wextra -Wno-missing-field-initializers -Wshadow -Wconversion -Wnon-virtual-dtor
  # GCC 12 sees overlapping copies in `"a" + std::string` at -O3 (its bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>
  $<$<BOOL:${FTPLAN_WERROR}>:-Werror>)

if(FTPLAN_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()

if(FTPLAN_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# ftplan_add_library(<name> HEADERS ... SOURCES ... DEPS ... [PRIVATE_DEPS ...])
function(ftplan_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;SOURCES;DEPS;PRIVATE_DEPS")
  add_library(ftplan_${name} STATIC)
  add_library(ftplan::${name} ALIAS ftplan_${name})
  set_target_properties(ftplan_${name} PROPERTIES EXPORT_NAME ${name})
  list(TRANSFORM arg_HEADERS PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
  target_sources(ftplan_${name}
    PRIVATE ${arg_SOURCES}
    PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${arg_HEADERS})
  target_compile_features(ftplan_${name} PUBLIC cxx_std_20)
  target_link_libraries(ftplan_${name}
    PUBLIC ${arg_DEPS} PRIVATE ${arg_PRIVATE_DEPS} $<BUILD_INTERFACE:ftplan::warnings>)
  ftplan_install_library(ftplan_${name})
endfunction()

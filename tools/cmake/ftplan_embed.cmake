# Text files inside a library, so that the binary needs no path to find them.
#
# ftplan_embed(<target> <name> FILES ...) adds a source to the target that defines, in ftplan::<room>, what
# <name>.h declares:  const std::vector<EmbeddedFile>& <name>();  in the order of FILES.
# The same file, run as a script by the build, writes that source again when a file changes.

if(CMAKE_SCRIPT_MODE_FILE)
  set(entries "")
  foreach(file IN LISTS FILES)
    get_filename_component(stem "${file}" NAME_WLE)
    file(READ "${file}" text)
    if(text MATCHES "\\)embedded\"")
      message(FATAL_ERROR "${file}: holds the mark that ends an embedded text")
    endif()
    string(APPEND entries "      {\"${stem}\", R\"embedded(${text})embedded\"},\n")
  endforeach()
  file(WRITE "${OUTPUT}" "#include \"${HEADER}\"

#include <vector>

namespace ftplan::${ROOM} {

const std::vector<EmbeddedFile>& ${NAME}() {
  static const std::vector<EmbeddedFile> kFiles = {
${entries}  };
  return kFiles;
}

}  // namespace ftplan::${ROOM}
")
  return()
endif()

set(FTPLAN_EMBED_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")

function(ftplan_embed target name)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "FILES")
  cmake_path(GET CMAKE_CURRENT_SOURCE_DIR FILENAME room)
  set(output "${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp")
  add_custom_command(
    OUTPUT "${output}"
    COMMAND ${CMAKE_COMMAND} "-DFILES=${arg_FILES}" -DOUTPUT=${output} -DNAME=${name} -DROOM=${room}
            -DHEADER=${room}/${name}.h -P ${FTPLAN_EMBED_SCRIPT}
    DEPENDS ${arg_FILES} ${FTPLAN_EMBED_SCRIPT}
    VERBATIM)
  target_sources(${target} PRIVATE "${output}")
endfunction()

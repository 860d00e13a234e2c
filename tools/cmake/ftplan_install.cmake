# `cmake --install`: the libraries of the planner with their headers, and a package for find_package(ftplan).
# The executor stays out: it is a program's part, and its LibTorch lives in the build tree. So do the tools.

include(CMakePackageConfigHelpers)

# ftplan_install_library(<target>), called for each room.
function(ftplan_install_library target)
  cmake_path(GET CMAKE_CURRENT_SOURCE_DIR FILENAME room)
  if(room MATCHES "^(executor|tools)$")
    return()
  endif()
  install(TARGETS ${target} EXPORT ftplan_targets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/ftplan COMPONENT library)
endfunction()

# After the last room.
function(ftplan_install_package)
  set(folder ${CMAKE_INSTALL_LIBDIR}/cmake/ftplan)
  configure_package_config_file(
    "${PROJECT_SOURCE_DIR}/tools/cmake/ftplan-config.cmake.in" "${PROJECT_BINARY_DIR}/ftplan-config.cmake"
    INSTALL_DESTINATION ${folder} NO_SET_AND_CHECK_MACRO)
  write_basic_package_version_file("${PROJECT_BINARY_DIR}/ftplan-config-version.cmake"
    COMPATIBILITY SameMinorVersion)
  install(FILES "${PROJECT_BINARY_DIR}/ftplan-config.cmake" "${PROJECT_BINARY_DIR}/ftplan-config-version.cmake"
    DESTINATION ${folder} COMPONENT library)
  install(EXPORT ftplan_targets NAMESPACE ftplan:: DESTINATION ${folder} COMPONENT library)
endfunction()

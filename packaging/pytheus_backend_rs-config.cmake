# Defines the targets pytheus_backend_rs::shared and pytheus_backend_rs::static. It reads the version and the name of
# the library from the installed header, and looks for everything relative to its own place, <prefix>/share/cmake/….
get_filename_component(_pytheus_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

if(NOT TARGET pytheus_backend_rs::shared)
  file(STRINGS "${_pytheus_prefix}/include/pytheus_backend_rs.h" _pytheus_abi REGEX "^#define BACKEND_ABI_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+$" _pytheus_abi "${_pytheus_abi}")
  set(_pytheus_soname "libpytheus_backend_rs.so.${_pytheus_abi}")

  # `make install` and `cargo cinstall` differ in the folder of libraries on some systems.
  foreach(_pytheus_file "${_pytheus_soname}" libpytheus_backend_rs.a)
    set(_pytheus_place_${_pytheus_file} "")
    foreach(_pytheus_folder lib lib64 "lib/${CMAKE_LIBRARY_ARCHITECTURE}")
      if(NOT _pytheus_place_${_pytheus_file} AND EXISTS "${_pytheus_prefix}/${_pytheus_folder}/${_pytheus_file}")
        set(_pytheus_place_${_pytheus_file} "${_pytheus_prefix}/${_pytheus_folder}/${_pytheus_file}")
      endif()
    endforeach()
    if(NOT _pytheus_place_${_pytheus_file})
      set(pytheus_backend_rs_FOUND FALSE)
      set(pytheus_backend_rs_NOT_FOUND_MESSAGE "there is no ${_pytheus_file} in the lib folders of ${_pytheus_prefix}")
      return()
    endif()
  endforeach()

  add_library(pytheus_backend_rs::shared SHARED IMPORTED)
  set_target_properties(pytheus_backend_rs::shared PROPERTIES
    IMPORTED_LOCATION "${_pytheus_place_${_pytheus_soname}}"
    IMPORTED_SONAME "${_pytheus_soname}"
    INTERFACE_INCLUDE_DIRECTORIES "${_pytheus_prefix}/include")

  include(CMakeFindDependencyMacro)
  find_dependency(Threads)
  add_library(pytheus_backend_rs::static STATIC IMPORTED)
  set_target_properties(pytheus_backend_rs::static PROPERTIES
    IMPORTED_LOCATION "${_pytheus_place_libpytheus_backend_rs.a}"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m"
    INTERFACE_INCLUDE_DIRECTORIES "${_pytheus_prefix}/include")
endif()

unset(_pytheus_prefix)

# A program that asks for a version gets this one if the version is not newer and the binary interface is the
# same. While the major version is 0, each minor version may change the interface. The header has the version.
file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/../../../include/pytheus_backend_rs.h" PACKAGE_VERSION
  REGEX "^#define BACKEND_VERSION \"")
string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+[^\"]*" PACKAGE_VERSION "${PACKAGE_VERSION}")
string(REGEX MATCH "^[0-9]+\\.[0-9]+" _pytheus_series "${PACKAGE_VERSION}")
if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
elseif("${PACKAGE_FIND_VERSION_MAJOR}.${PACKAGE_FIND_VERSION_MINOR}" STREQUAL _pytheus_series)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
else()
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
endif()
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
unset(_pytheus_series)

# `cmake --install build/release --prefix P`: bin/meed, the three libraries, their public headers under include/meed, the recipes under
# share/meed/configs, and the package that find_package(meed) reads, with the targets meed::policy, meed::reward and meed::algorithms.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
install(TARGETS meed policy reward algorithms EXPORT meed
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY libpolicy libreward algorithms DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/meed
  FILES_MATCHING PATTERN "*.h" PATTERN "cli" EXCLUDE PATTERN "page" EXCLUDE PATTERN "cuda" EXCLUDE)
install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/meed)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/meed)
install(EXPORT meed NAMESPACE meed:: FILE meedTargets.cmake DESTINATION ${package})
configure_package_config_file(cmake/meedConfig.cmake.in ${CMAKE_BINARY_DIR}/meedConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/meedConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/meedConfig.cmake ${CMAKE_BINARY_DIR}/meedConfigVersion.cmake cmake/LibTorch.cmake DESTINATION ${package})

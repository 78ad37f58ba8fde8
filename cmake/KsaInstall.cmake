# cmake --install: the program, the scripts that start it, its configurations and its documents. What builds and tests the
# tree (bootstrap.sh, quickstart.sh, test.sh) stays in the tree.
include(GNUInstallDirs)
# Libraries outside of the system's own folders, such as OpenBLAS's OpenMP build, are found as in the build.
set_target_properties(ksa PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS ksa RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(PROGRAMS launch/mpirun.sh launch/supervise.sh launch/slurm.sbatch DESTINATION ${CMAKE_INSTALL_DATADIR}/ksa/launch)
install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/ksa PATTERN test EXCLUDE)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
install(FILES README.md CONTRIBUTING.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

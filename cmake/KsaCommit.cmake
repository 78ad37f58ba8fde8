# Run by every build (cmake -D SOURCE=... -D OUTPUT=... -P): writes the commit that is built as a source file, and
# touches it only where it has changed, so that an unchanged tree builds and links nothing. A tree that `git archive` made knows
# its commit from cmake/archived_commit.txt; any other has none.
find_package(Git QUIET)
set(commit "")
if(Git_FOUND)
  # Empty at the top of a work tree. Unpacked somewhere inside another one, that one's commit would be a wrong answer.
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE} rev-parse --show-prefix
                  OUTPUT_VARIABLE prefix OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed AND prefix STREQUAL "")
    execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE} describe --always --abbrev=12 --exclude=* --dirty=-changed
                    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()
if(commit STREQUAL "" AND EXISTS ${SOURCE}/cmake/archived_commit.txt)
  file(STRINGS ${SOURCE}/cmake/archived_commit.txt archived LIMIT_COUNT 1)
  if(archived MATCHES "^[0-9a-f]+$")
    set(commit ${archived})
  endif()
endif()
set(text "#include \"trainer/version.h\"\n\nconst char* const ksa::kBuiltCommit = \"${commit}\";\n")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT "${before}" STREQUAL "${text}")
  file(WRITE ${OUTPUT} "${text}")
endif()

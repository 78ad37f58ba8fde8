// Preloaded: an MPI that allows no thread beside the one that calls it.
extern "C" int PMPI_Init_thread(int* argc, char*** argv, int required, int* provided);

extern "C" int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
  const int result = PMPI_Init_thread(argc, argv, required, provided);
  *provided = 0;
  return result;
}

"""The HDF5 feature store: format, writer, reader, verification."""

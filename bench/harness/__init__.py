"""What `bench/run` is made of: processes, servers, the disk's own speed, the works, one run, its table."""

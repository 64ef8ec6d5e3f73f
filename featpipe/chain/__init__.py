"""Running a program on pixels in memory."""

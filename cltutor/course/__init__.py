"""Courses: student files and what comes back of them."""

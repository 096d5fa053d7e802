"""Property tests run without a deadline: no test asserts how long something takes."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

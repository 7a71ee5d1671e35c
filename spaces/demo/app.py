"""The Space: connectome proofreading to try, explore and compare. All of it is in the package."""

from connectomebench.demo.demo_data import space_folder
from connectomebench.demo.server import serve

if __name__ == "__main__":
    serve(space_folder(), public=True)

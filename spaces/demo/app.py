"""The Space: connectome proofreading to try, explore and compare. All of it is in the package."""

from connectomebench.demo.server import serve_space

if __name__ == "__main__":
    serve_space()

"""Where computations run: worker processes, other machines, how clients are spread over them."""

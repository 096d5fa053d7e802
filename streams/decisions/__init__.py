"""The decision lane's work, in the order of a request's way: validate, route, ask, emit; `work` ties them."""

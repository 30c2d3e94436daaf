"""What data is: ids, Arrow schemas, typed contracts, specs and errors. Imports nothing of ours."""

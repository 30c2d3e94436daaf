"""The model tier: one client, three kinds of model behind it, replies kept so that no finished call is made twice."""

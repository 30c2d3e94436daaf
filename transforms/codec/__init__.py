"""Action codecs: from chunks of continuous actions to integers and back, each with a bound it declares and is held to."""

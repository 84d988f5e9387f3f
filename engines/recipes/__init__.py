"""Recipes: from a data set to the folder of a running engine, with Keras.

The node does not know them: it runs what they write. They know the node, since what a network is
trained on has to be what the node will show it.
"""

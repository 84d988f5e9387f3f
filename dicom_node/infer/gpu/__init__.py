"""The way of a volume on a GPU: voxels up once, labels down, everything between stays there.

device.py    one GPU, and the one thread that owns it
resources.py what lives there: memory, streams, events, kernels
network.py   what the path asks of a network on the device
graphs.py    the launches of a network, recorded once and replayed
nvrtc.py     kernels/*.cu, compiled for the device at hand
kernels.py   those kernels, with the types of their arguments
axes.py      the way to the network's grid and back, as the kernels read it
schedule.py  which windows when, and what must be in memory then (pure)
memory.py    how much that is, before anything is allocated (pure)
task.py      what is to be done with one volume
feed.py      a run: up to the network's input
answers.py   what the network says, added up
mask.py      from there to labels, and down
path.py      all of it, for one engine
first.py     the same, with the processor for what does not fit
wiring.py    what the engines on one device share
"""

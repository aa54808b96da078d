"""How far a profile is from what live replicas show: bounded factors for time and for watts, learnt per shape.

observing   what a window of a shape's metrics says, in plain numbers
predicting  what the profile says of the same window
comparing   both side by side
evidence    many windows together: a ratio and how well it is known
factor      when a ratio moves a factor
startup     how long replicas take to start
shape       all of it for one shape, and the door for callers
"""

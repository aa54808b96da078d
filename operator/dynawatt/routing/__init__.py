"""Where a request goes, and when it is due: pure rules that the simulator follows and the picker will.

prediction  how long an answer is taken to be, with its error
pools       which pools may serve which length class
packing     how many replicas of a group get requests
deadlines   when a first token is due
"""

"""The compiled half of the fleet simulator; its door is ``dynawatt.simulation.fleet_core``.

state       what it knows: one record per replica and request, tables of costs, counts
queues      waiting requests, and the ends of decoding ones
batching    what goes into an iteration: the rules of ``simulation.settings``
counting    gaps and joules of one iteration, or of a run of equal ones
routing     which replica a request goes to
running     begins and ends runs of iterations
events      time: arrivals, routing, and everything up to a moment
jit         how functions are compiled and cached
"""

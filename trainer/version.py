"""The versions of our numbers: those of trials, and those of pre-training.

Of trials,
1: the first one.
2: dropout on a CPU draws 16 random bits a number, for the tokens that are no padding, and in the last layer for those
   alone that the classifier reads; what is dropped is as likely as before.
"""

NUMBERS = 2  # raised with every change that changes a trial's numbers; cells of another are never reused
PRETRAINING_NUMBERS = 1  # the same of pre-training: nothing goes on from the state of another

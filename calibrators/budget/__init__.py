"""The accuracy budget: what stays in float so that INT8 costs no more than wanted."""

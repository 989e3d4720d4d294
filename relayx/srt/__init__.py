"""Real SRT on the srt ports, by Haivision's libsrt: a binding, a pump, a thread and a plane."""

"""Text, HTML, KTAP and JUnit, all made from one Record."""
